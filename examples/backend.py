# A back end that signs deck tokens for its own users, with the standard library only. The deck trusts it: both have the same JWT_SECRET.
# Its users sign in as they always did; here by a password, and with a cookie of its own. A page then gets a token that lives ten minutes:
#   connect({ url, token: () => fetch('/deck-token').then((response) => response.text()) })
#   JWT_SECRET=… PORT=8080 python3 examples/backend.py
import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["JWT_SECRET"].encode()
# Yours come from your database: the user's name for the deck, a salted hash of the password, and the missions that the user may see.
SALT = secrets.token_bytes(16)
hashed = lambda password: hashlib.scrypt(password.encode(), salt=SALT, n=2**14, r=8, p=1)
USERS = {"ann@example.com": {"password": hashed("correct horse"), "missions": [47]}}
sessions = {}


def deck_token(user):
    """Signs a JSON Web Token (HS256) with what the deck reads: sub, role, exp and missions."""
    encode = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")
    claims = {"sub": user, "role": "user", "exp": int(time.time()) + 600, "missions": USERS[user]["missions"]}
    text = b".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return text + b"." + encode(hmac.digest(SECRET, text, "sha256"))


class Backend(BaseHTTPRequestHandler):
    def do_POST(self):
        if self.path != "/sign-in":
            return self.answer(404, b"")
        try:
            given = json.loads(self.rfile.read(min(int(self.headers.get("content-length", 0)), 4096)))
            user, password = str(given["user"]), str(given["password"])
        except (ValueError, KeyError, TypeError):
            return self.answer(400, b"")
        # The same work for a user that does not exist.
        known = USERS.get(user, {"password": b""})["password"]
        if not hmac.compare_digest(hashed(password), known):
            return self.answer(401, b"")
        session = secrets.token_urlsafe(32)
        sessions[session] = user
        self.answer(204, b"", {"set-cookie": f"session={session}; HttpOnly; SameSite=Strict; Path=/"})

    def do_GET(self):
        cookie = SimpleCookie(self.headers.get("cookie", "")).get("session")
        user = sessions.get(cookie.value) if cookie else None
        if self.path != "/deck-token":
            return self.answer(404, b"")
        if user is None:
            return self.answer(401, b"")
        self.answer(200, deck_token(user), {"cache-control": "no-store"})

    def answer(self, status, body, headers={}):
        self.send_response(status)
        for name, value in {"content-type": "text/plain", "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Backend)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
