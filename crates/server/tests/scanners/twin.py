"""A small service with holes on purpose, so that the scanners can show that they would find one.

It is never part of Gangline: a test starts it on loopback and stops it. Each hole is marked with HOLE.
"""

import json
import os
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

HERE = os.path.dirname(os.path.abspath(__file__))
LOCK = threading.Lock()
TABLE = "CREATE TABLE gpu (name TEXT, owner TEXT)"
ROWS = "INSERT INTO gpu VALUES ('a', 'ada'), ('b', 'bob'), ('llvmpipe', 'eve')"


class Sqlite:
    def __init__(self):
        self.books = sqlite3.connect(":memory:", check_same_thread=False)
        self.books.executescript(";".join([TABLE, ROWS]))

    def ask(self, statement):
        try:
            return self.books.execute(statement).fetchall(), None
        except sqlite3.Error as error:
            return None, "sqlite3.OperationalError: %s" % error


class Postgres:
    """The same in PostgreSQL: `folder of its socket|user|password|database`."""

    def __init__(self, where):
        import pg8000.native

        folder, user, password, database = where.split("|")
        self.error = pg8000.native.DatabaseError
        self.books = pg8000.native.Connection(
            user, unix_sock=folder + "/.s.PGSQL.5432", password=password, database=database
        )
        self.books.execute_simple(";".join([TABLE, ROWS]))

    def ask(self, statement):
        try:
            return self.books.execute_simple(statement).rows or [], None
        except self.error as error:
            return None, "PostgreSQL query failed: ERROR:  %s" % error.args[0].get("M", error)


BOOKS = Postgres(os.environ["GANGLINE_TWIN_POSTGRES"]) if "GANGLINE_TWIN_POSTGRES" in os.environ else Sqlite()
THINGS = {}

TEXT = {"type": "string"}
THING = {
    "type": "object",
    "properties": {"id": TEXT, "name": TEXT, "owner": TEXT},
    "required": ["id", "name", "owner"],
}
SIGNED = [{"signature": []}]


def query(name, kind):
    return {"name": name, "in": "query", "required": True, "schema": {"type": kind}}


def answers(schema, status="200"):
    return {status: {"description": "Done.", "content": {"application/json": {"schema": schema}}}}


OPENAPI = {
    "openapi": "3.1.0",
    "info": {"title": "A twin with holes", "version": "1"},
    "paths": {
        "/api/search": {
            "get": {"operationId": "search", "parameters": [query("q", "string")],
                    "responses": answers({"type": "array"}), "security": []}
        },
        "/api/crash": {
            "get": {"operationId": "crash", "parameters": [query("n", "string")],
                    "responses": answers({"type": "integer"}), "security": []}
        },
        "/api/secret": {"get": {"operationId": "secret", "responses": answers(TEXT), "security": SIGNED}},
        "/api/things": {
            "post": {"operationId": "make", "security": SIGNED, "responses": answers(THING, "201"),
                     "requestBody": {"required": True, "content": {"application/json": {"schema": {
                         "type": "object", "properties": {"name": TEXT}, "required": ["name"]}}}}}
        },
        "/api/things/{thing_id}": {
            "get": {"operationId": "get_thing", "security": SIGNED, "responses": answers(THING),
                    "parameters": [{"name": "thing_id", "in": "path", "required": True, "schema": TEXT}]}
        },
    },
    "components": {
        "securitySchemes": {"signature": {"type": "apiKey", "in": "header", "name": "Signature"}},
        "schemas": {"Thing": THING},
    },
}
PAGE = """<!doctype html><title>Twin</title><a href="/api/search?q=a">search</a>
<a href="/go?to=/">go</a> <a href="/file?name=twin.txt">file</a>"""


class Twin(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def tell(self, status, value, kind="application/json"):
        text = (value if kind != "application/json" else json.dumps(value)).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def any(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        who = self.headers.get("signature")
        # HOLE: every method does what GET does.
        if url.path == "/":
            return self.tell(200, PAGE, "text/html")
        if url.path == "/openapi.json":
            return self.tell(200, OPENAPI)
        if url.path == "/api/search":
            # HOLE: what is asked for becomes a part of the statement.
            with LOCK:
                rows, error = BOOKS.ask("SELECT name FROM gpu WHERE name = '%s'" % asked.get("q", ""))
            if error:
                return self.tell(500, error, "text/html")
            return self.tell(200, [str(row[0]) for row in rows])
        if url.path == "/api/crash":
            # HOLE: what is no number breaks it.
            try:
                return self.tell(200, int(asked.get("n", "0")))
            except ValueError as error:
                return self.tell(500, str(error), "text/plain")
        if url.path == "/api/secret":
            # HOLE: nobody is asked who they are.
            return self.tell(200, "a secret")
        if url.path == "/go":
            # HOLE: a line break ends the header.
            self.send_response(302)
            self.send_header("location", asked.get("to", "/"))
            self.send_header("content-length", "0")
            self.end_headers()
            return None
        if url.path == "/file":
            # HOLE: a name may lead anywhere.
            try:
                with open(os.path.join(HERE, asked.get("name", "")), encoding="utf-8", errors="replace") as file:
                    return self.tell(200, file.read(65536), "text/plain")
            except (OSError, ValueError):
                return self.tell(404, "no such file", "text/plain")
        if url.path.startswith("/api/things"):
            if who not in ("alice", "bob"):
                return self.tell(401, {"code": "unsigned"})
            if url.path == "/api/things" and self.command == "POST":
                try:
                    name = json.loads(body)["name"]
                    assert isinstance(name, str)
                except (ValueError, KeyError, TypeError, AssertionError):
                    return self.tell(400, {"code": "malformed"})
                with LOCK:
                    thing = {"id": "thing-%d" % (len(THINGS) + 1), "name": name, "owner": who}
                    THINGS[thing["id"]] = thing
                return self.tell(201, thing)
            # HOLE: whoever is somebody gets anybody's.
            thing = THINGS.get(url.path.rsplit("/", 1)[1])
            return self.tell(200, thing) if thing else self.tell(404, {"code": "not_found"})
        return self.tell(404, "nothing", "text/plain")

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = any


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Twin)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
