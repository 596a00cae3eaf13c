"""A server in a capsule for the tests of the proxy: well-behaved below most paths, hostile below /hostile.

Only the standard library: it runs in the base image. Usage: guest-server.py <port>
"""

import asyncio
import base64
import hashlib
import json
import struct
import sys
import zlib
from urllib.parse import parse_qs, urlsplit

BLOCK = bytes(range(256)) * 256
WS_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
connections = 0


async def read_request(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head[:-4].split("\r\n")
    method, target, _ = line.split(" ")
    headers = [tuple(part.strip() for part in each.split(":", 1)) for each in lines]
    return method, target, headers


async def read_body(reader, headers):
    """Yields the body's pieces, whatever its framing."""
    if headers.get("transfer-encoding") == "chunked":
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            left = size
            while left > 0:
                piece = await reader.read(min(left, 1 << 16))
                left -= len(piece)
                yield piece
            await reader.readuntil(b"\r\n")
            if size == 0:
                return
    left = int(headers.get("content-length", 0))
    while left > 0:
        piece = await reader.read(min(left, 1 << 16))
        if not piece:
            return
        left -= len(piece)
        yield piece


def answer(writer, body, status="200 OK", extra=""):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    writer.write(head.encode() + body)


async def download(writer, query):
    left = int(query["bytes"][0])
    if "chunked" in query:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    else:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n".encode())
    while left > 0:
        piece = BLOCK[: min(left, len(BLOCK))]
        left -= len(piece)
        if "chunked" in query:
            piece = b"%x\r\n%s\r\n" % (len(piece), piece)
        writer.write(piece)
        await writer.drain()
    if "chunked" in query:
        writer.write(b"0\r\n\r\n")


async def events(writer):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n"
    writer.write(head)
    for number in range(5):
        writer.write(f"data: {number}\n\n".encode())
        await writer.drain()
        await asyncio.sleep(0.2)


async def websocket(reader, writer, headers):
    key = headers["sec-websocket-key"].encode()
    accept = base64.b64encode(hashlib.sha1(key + WS_GUID).digest()).decode()
    protocol = headers.get("sec-websocket-protocol", "").split(",")[0]
    extra = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{extra}\r\n".encode()
    )
    while True:
        first, second = await reader.readexactly(2)
        opcode, size = first & 15, second & 127
        if size == 126:
            (size,) = struct.unpack(">H", await reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await reader.readexactly(8))
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(size)
        # The mask as one large number: a loop over bytes takes seconds in an emulated guest.
        pattern = (mask * (size // 4 + 1))[:size]
        number = int.from_bytes(masked, "big") ^ int.from_bytes(pattern, "big")
        payload = number.to_bytes(size, "big")
        if opcode == 1 and payload.startswith(b"close "):
            opcode, payload = 8, struct.pack(">H", int(payload[6:])) + b"as you wish"
        size = len(payload)
        if size < 126:
            length = bytes([size])
        elif size < 65536:
            length = b"\x7e" + struct.pack(">H", size)
        else:
            length = b"\x7f" + struct.pack(">Q", size)
        writer.write(bytes([0x80 | opcode]) + length + payload)
        await writer.drain()
        if opcode == 8:
            return


async def hostile(writer, path):
    if path == "/hostile/endless-head":
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"A: " + b"a" * 60_000 + b"\r\n")
            await writer.drain()
    if path == "/hostile/bad-chunks":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await asyncio.sleep(0.3)
        writer.write(b"zz\r\n")
        await asyncio.sleep(30)
    if path == "/hostile/reset":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        await writer.drain()
        await asyncio.sleep(0.3)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(1, 13, linger)  # SOL_SOCKET, SO_LINGER
        writer.transport.abort()
    if path == "/hostile/short":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    if path == "/hostile/never":
        await asyncio.sleep(3600)


async def respond(reader, writer, number):
    method, target, lines = await read_request(reader)
    url, headers = urlsplit(target), {name.lower(): value for name, value in lines}
    query = parse_qs(url.query)
    if url.path == "/ws":
        await websocket(reader, writer, headers)
        return False
    if url.path == "/events":
        await events(writer)
        return False
    if url.path.startswith("/hostile/"):
        await hostile(writer, url.path)
        return False
    if url.path == "/download":
        await download(writer, query)
    elif url.path == "/upload":
        size, crc = 0, 0
        async for piece in read_body(reader, headers):
            size, crc = size + len(piece), zlib.crc32(piece, crc)
        answer(writer, {"bytes": size, "crc": crc})
    elif url.path == "/204":
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    elif url.path == "/304":
        writer.write(b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n')
    elif url.path == "/redirect":
        host = headers["host"]
        place = query["to"][0].replace("{host}", host)
        answer(writer, b"", "302 Found", f"Location: {place}\r\n")
    elif url.path == "/cookies":
        extra = "Set-Cookie: wrenn_sid=evil; Domain=localhost\r\nSet-Cookie: a=1\r\n"
        answer(writer, b"", extra=extra + "Set-Cookie: b=2\r\n")
    else:
        echo = {"method": method, "target": target, "headers": lines, "connection": number}
        body = json.dumps(echo).encode()
        answer(writer, b"" if method == "HEAD" else body, extra="X-Echo: 1\r\nx-echo: 2\r\n")
    return headers.get("connection") != "close"


async def serve(reader, writer):
    global connections
    connections += 1
    number = connections
    try:
        while await respond(reader, writer, number):
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", int(sys.argv[1]), limit=1 << 20)
    async with server:
        await server.serve_forever()


asyncio.run(main())
