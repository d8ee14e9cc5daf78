"""Answers everything and writes down every request that it got: for gunicorn `wsgi`, for uvicorn `asgi`."""

import os

LOG = os.open(os.environ["SAW"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def write_down(method, target):
    os.write(LOG, f"{method} {target}\n".encode())


def wsgi(environ, start_response):
    target = environ["RAW_URI"]
    write_down(environ["REQUEST_METHOD"], target)
    environ["wsgi.input"].read()
    start_response("200 OK", [("Saw", target), ("Content-Length", "2")])
    # gunicorn would send a body here too.
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"ok"]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    target = (scope["raw_path"] + query).decode("latin-1")
    write_down(scope["method"], target)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
    headers = [(b"saw", target.encode("latin-1")), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
