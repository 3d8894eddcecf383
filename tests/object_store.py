"""An object store on the loopback: the part of GCS's JSON API that runs use.

Objects are whole or not there, cannot be appended to, and have no folders:
what a run must cope with.
"""

import email.parser
import email.policy
import http.server
import json
import re
import threading
import urllib.parse
import uuid


class Store:
  """Objects in memory, by bucket and name, and the server that offers them."""

  def __init__(self):
    self.objects: dict[tuple[str, str], tuple[bytes, int]] = {}
    self.requests: list[str] = []
    self._lock = threading.Lock()
    self._generation = 0
    self.sessions: dict[str, tuple[str, str, bytearray]] = {}
    store = self

    class Handler(_Handler):
      """Bound to this store."""

    Handler.store = store
    self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    self._server.daemon_threads = True
    self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

  def __enter__(self):
    threading.Thread(target=self._server.serve_forever, daemon=True).start()
    return self

  def __exit__(self, *exception):
    self._server.shutdown()
    self._server.server_close()

  def put(self, bucket, name, content, match=None):
    """Writes an object whole; None if its generation is not `match`."""
    with self._lock:
      now = self.objects.get((bucket, name), (b"", 0))[1]
      if match is not None and int(match) != now:
        return None
      self._generation += 1
      self.objects[bucket, name] = (bytes(content), self._generation)
    return self.described(bucket, name)

  def delete(self, bucket, name):
    """Deletes an object; False if there is none."""
    with self._lock:
      return self.objects.pop((bucket, name), None) is not None

  def described(self, bucket, name):
    """An object's metadata."""
    content, generation = self.objects[bucket, name]
    return {
      "kind": "storage#object",
      "bucket": bucket,
      "name": name,
      "size": str(len(content)),
      "generation": str(generation),
      "metageneration": "1",
      "contentType": "application/octet-stream",
      "timeCreated": "2026-01-01T00:00:00.000Z",
      "updated": "2026-01-01T00:00:00.000Z",
      "crc32c": "AAAAAA==",
      "storageClass": "STANDARD",
    }

  def listed(self, bucket, prefix="", delimiter=""):
    """What a listing answers."""
    items, prefixes = [], set()
    for of, name in sorted(self.objects):
      if of != bucket or not name.startswith(prefix):
        continue
      rest = name[len(prefix) :]
      if delimiter and delimiter in rest:
        prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
      else:
        items.append(self.described(bucket, name))
    return {
      "kind": "storage#objects",
      "items": items,
      "prefixes": sorted(prefixes),
    }


class _Handler(http.server.BaseHTTPRequestHandler):
  """One request."""

  protocol_version = "HTTP/1.1"
  store: Store

  def log_message(self, *arguments):
    """Says nothing."""

  def do_GET(self):
    self._answer("GET")

  def do_POST(self):
    self._answer("POST")

  def do_PUT(self):
    self._answer("PUT")

  def do_DELETE(self):
    self._answer("DELETE")

  def _answer(self, method):
    body = self._body()
    self.store.requests.append(f"{method} {self.path}")
    self._send(*self._route(method, self.path, body))

  def _body(self):
    if self.headers.get("Transfer-Encoding") == "chunked":
      parts = []
      while size := int(self.rfile.readline().split(b";")[0], 16):
        parts.append(self.rfile.read(size))
        self.rfile.readline()
      self.rfile.readline()
      return b"".join(parts)
    return self.rfile.read(int(self.headers.get("Content-Length") or 0))

  def _send(self, code, content=b"", headers=()):
    if not isinstance(content, bytes):
      content = json.dumps(content).encode()
    self.send_response(code)
    for name, value in dict(headers).items():
      self.send_header(name, value)
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    self.wfile.write(content)

  def _route(self, method, target, body):
    url = urllib.parse.urlsplit(target)
    query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
    path, store = url.path, self.store
    missing = (404, {"error": {"code": 404, "message": "No such object"}})
    if path.startswith("/batch"):
      return self._batch(body)
    if path.startswith("/upload"):
      return self._upload(method, path, query, body)
    found = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)(?:/(.*))?", path)
    if not found:
      return missing
    bucket, rest = found[1], found[2]
    if rest is None:
      return 200, {"kind": "storage#bucket", "name": bucket, "id": bucket}
    if rest == "storageLayout":
      return 200, {"hierarchicalNamespace": {"enabled": False}}
    if rest == "o":
      return 200, store.listed(
        bucket, query.get("prefix", ""), query.get("delimiter", "")
      )
    copied = re.fullmatch(r"o/(.+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/(.+)", rest)
    if copied:
      name, to, as_name = map(urllib.parse.unquote, copied.groups())
      if (bucket, name) not in store.objects:
        return missing
      done = store.put(to, as_name, store.objects[bucket, name][0])
      return 200, {"done": True, "resource": done, **done}
    moved = re.fullmatch(r"o/(.+)/moveTo/o/(.+)", rest)
    if moved:
      name, as_name = map(urllib.parse.unquote, moved.groups())
      if (bucket, name) not in store.objects:
        return missing
      done = store.put(bucket, as_name, store.objects[bucket, name][0])
      store.delete(bucket, name)
      return 200, done
    name = urllib.parse.unquote(rest.removeprefix("o/"))
    if method == "DELETE":
      return (204, b"") if store.delete(bucket, name) else missing
    if (bucket, name) not in store.objects:
      return missing
    if query.get("alt") != "media":
      return 200, store.described(bucket, name)
    return self._content(*store.objects[bucket, name])

  def _content(self, content, generation):
    headers = {
      "x-goog-generation": generation,
      "Content-Type": "application/octet-stream",
    }
    asked = re.fullmatch(
      r"bytes=(\d*)-(\d*)", self.headers.get("Range", "") or ""
    )
    if not asked:
      return 200, content, headers
    size = len(content)
    first = int(asked[1]) if asked[1] else max(size - int(asked[2]), 0)
    last = int(asked[2]) if asked[1] and asked[2] else size - 1
    last = min(last, size - 1)
    if first > last:
      return 416, b"", headers
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return 206, content[first : last + 1], headers

  def _upload(self, method, path, query, body):
    store = self.store
    if "upload_id" in query:
      bucket, name, content = store.sessions[query["upload_id"]]
      content += body
      whole = (self.headers.get("Content-Range") or "").rpartition("/")[2]
      if whole not in ("", "*") and int(whole) == len(content):
        return 200, store.put(bucket, name, content)
      return 308, b"", {"Range": f"bytes=0-{len(content) - 1}"}
    bucket = re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path)[1]
    match, name = query.get("ifGenerationMatch"), query.get("name", "")
    if query.get("uploadType") == "multipart":
      header = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n"
      described, content = (
        email.parser.BytesParser(policy=email.policy.HTTP)
        .parsebytes(header.encode() + body)
        .iter_parts()
      )
      name = json.loads(described.get_payload())["name"]
      # As it was sent: the parser's own reading of bytes folds line ends.
      boundary = re.search(
        r"boundary=['\"]?([^'\";]+)", self.headers["Content-Type"]
      )[1].encode()
      part = body.split(b"--" + boundary)[2]
      body = re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1]
      body = re.sub(rb"\r?\n\Z", b"", body)
    if query.get("uploadType") == "resumable":
      name = name or json.loads(body or b"{}").get("name", "")
      key = uuid.uuid4().hex
      store.sessions[key] = (bucket, name, bytearray())
      url = f"{store.url}{path}?uploadType=resumable&upload_id={key}"
      return 200, {}, {"Location": url}
    done = store.put(bucket, name, body, match)
    if done is None:
      return 412, {"error": {"code": 412, "message": "generation"}}
    return 200, done

  def _batch(self, body):
    answers = []
    boundary = re.search(
      r"boundary=['\"]?([^'\";]+)", self.headers["Content-Type"]
    )[1].encode()
    for part in body.split(b"--" + boundary):
      request = re.search(rb"(DELETE|GET|POST) (\S+) HTTP", part)
      if request:
        target = request[2].decode()
        code, *_ = self._route(request[1].decode(), target, b"")
        answers.append(
          "--answer\r\nContent-Type: application/http\r\n\r\n"
          f"HTTP/1.1 {code} OK\r\nContent-Length: 0\r\n\r\n\r\n"
        )
    text = "".join(answers) + "--answer--"
    return (
      200,
      text.encode(),
      {"Content-Type": "multipart/mixed; boundary=answer"},
    )
