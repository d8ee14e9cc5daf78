"""A web app that counts its visitors in Redis, and says which process answered."""

import os

import flask
import redis

app = flask.Flask(__name__)
store = redis.Redis(
    host=os.environ.get("REDIS_HOST", "redis"),
    port=int(os.environ.get("REDIS_PORT", "6379")),
)


@app.get("/")
def visit():
    return f"visitor {store.incr('visitors')}, answered by process {os.getpid()}\n"
