"""OAuth servers that nobody here wrote, and the person in front of a browser."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import pytest
import requests

OAUTH2_MOCK_SERVER = """
import { OAuth2Server } from 'oauth2-mock-server';
const server = new OAuth2Server();
await server.issuer.keys.generate('RS256');
let lived = 0;
server.service.on('beforeTokenSigning', (token, req) => { token.payload.jti = `${++lived}`;
  token.payload.asked = req.body; });
await server.start(0, '127.0.0.1');
console.log(`http://127.0.0.1:${server.address().port}`);
"""

# Access tokens live for 2 seconds, refresh tokens are good once, PKCE is required.
OIDC_PROVIDER = """
import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const jwk = { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'k' };
const client = { application_type: 'native', response_types: ['code'], redirect_uris: ['http://127.0.0.1/callback'],
  grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'] };
const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks: { keys: [jwk] },
    cookies: { keys: ['a key of cookies'] },
    clients: [{ ...client, client_id: 'public', token_endpoint_auth_method: 'none' },
      { ...client, client_id: 'form', client_secret: 's3cret:of/client',
        token_endpoint_auth_method: 'client_secret_post' },
      { ...client, client_id: 'basic', client_secret: 's3cret:of/client',
        token_endpoint_auth_method: 'client_secret_basic' }],
    pkce: { required: () => true },
    rotateRefreshToken: true,
    ttl: { AccessToken: 2 },
    features: { devInteractions: { enabled: true }, deviceFlow: { enabled: true } },
  });
  server.on('request', provider.callback());
  console.log(issuer);
});
"""


@contextmanager
def npm_server(folder: Path, package: str, script: str) -> Iterator[str]:
    """The URL of a server of npm: the script is run by node, and prints it."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip(f"npm and node are needed for {package}")
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", package]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        pytest.skip(f"npm can't install {package} here")
    (folder / "serve.mjs").write_text(textwrap.dedent(script))
    command = [node, "serve.mjs"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def browse(url: str, *, agree: bool = True, **typed: str) -> requests.Response:
    """What a person sees who logs in on the pages of oidc-provider and agrees to all they ask, or to nothing."""
    with requests.Session() as browser:
        page = browser.get(url, timeout=10)
        for _ in range(8):
            if not (form := re.search(r"<form[^>]*>.*?</form>", page.text, re.DOTALL)):
                break
            abort = re.search(r'href="([^"]*/abort)"', page.text)
            if abort and not agree:
                page = browser.get(urljoin(page.url, abort[1]), timeout=10)
                continue
            fields = {
                name[1]: html.unescape(value[1]) if (value := re.search(r'\bvalue="([^"]*)"', field)) else "person"
                for field in re.findall(r"<(?:input|button)[^>]*>", form[0])
                if (name := re.search(r'\bname="([^"]*)"', field)) and name[1] != "abort"
            }
            target = re.search(r'\baction="([^"]*)"', form[0])
            assert target
            page = browser.post(urljoin(page.url, target[1]), {**fields, **typed}, timeout=10)
        return page
