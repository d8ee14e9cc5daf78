// Answers everything, and writes down every request that it got. `node saw.js HOST PORT LOG`.
const fs = require('node:fs');
const http = require('node:http');

const [host, port, path] = process.argv.slice(2);
const log = fs.openSync(path, 'a');

const server = http.createServer({ keepAliveTimeout: 60000 }, (request, response) => {
  fs.writeSync(log, `${request.method} ${request.url}\n`);
  request.resume();
  request.on('end', () => {
    response.writeHead(200, { Saw: request.url, 'Content-Length': 2 });
    response.end('ok');
  });
});
server.listen(Number(port), host);
