"""A web app that counts its visitors in Redis, and says which process answered."""

import os
import time

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


@app.get("/version")
def version():
    if "BROKEN" in os.environ:
        return "broken\n", 500
    return os.environ.get("VERSION", "v1") + "\n"


@app.route("/slow/<name>", methods=["GET", "POST"])
def slow(name):
    """The first to be asked says who it is, and takes long enough to be killed."""
    try:
        with open(f"{name}.pid", "x") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(30)
    except FileExistsError:
        pass
    return "done\n"


@app.get("/work")
def work():
    """Computes for some milliseconds of processor time, however long that takes."""
    end = time.thread_time() + float(os.environ.get("WORK_MS", "8")) / 1000
    while time.thread_time() < end:
        pass
    return f"worked, visitor {store.incr('visitors')}\n"
