// Reads connections, one per line and in hexadecimal, with Node's own HTTP server, and prints a line for
// each: 1 or 0 for content or not, then every request as METHOD;name=value,...;body, values and
// bodies in hexadecimal and fields sorted.
'use strict';

const http = require('http');
const { Duplex } = require('stream');

const hex = (text) => Buffer.from(text, 'latin1').toString('hex');

function fieldsOf(raw) {
  const fields = [];
  for (let at = 0; at < raw.length; at += 2) {
    fields.push(`${raw[at].toLowerCase()}=${hex(raw[at + 1])}`);
  }
  return fields.sort().join(',');
}

function read(bytes) {
  return new Promise((resolve) => {
    const seen = [];
    let content = 1;
    const server = http.createServer((request, response) => {
      const pieces = [];
      request.on('data', (piece) => pieces.push(piece));
      request.on('end', () => {
        const body = Buffer.concat(pieces).toString('hex');
        seen.push(`${request.method};${fieldsOf(request.rawHeaders)};${body}`);
        response.end();
      });
    });
    server.on('clientError', (error, socket) => {
      content = 0;
      socket.destroy();
    });
    const socket = new Duplex({ read() {}, write: (piece, encoding, done) => done() });
    socket.on('close', () => resolve([content, ...seen].join(' ')));
    server.emit('connection', socket);
    socket.push(bytes);
    socket.push(null);
  });
}

async function main() {
  let text = '';
  process.stdin.setEncoding('ascii');
  for await (const piece of process.stdin) text += piece;
  for (const line of text.split('\n').slice(0, -1)) {
    console.log(await read(Buffer.from(line, 'hex')));
  }
}

main();
