"""Holds in a guest, in one process, what must survive pauses: a nonce, a counter that never stands still, pages
of memory and blocks of a file whose contents follow from a seed, and generators of random numbers. It notes each
jump of the clock. Every connection asks one thing, in a line of words, and gets one line of JSON.

Only the standard library: it runs in the base image. Usage: witness.py <port> <seed>
"""

import hashlib
import json
import mmap
import os
import random
import secrets
import socket
import ssl
import sys
import threading
import time
import uuid
import zlib

PAGE = 4096
FILE = "/root/witness/blocks"
NAMES_KEPT = 8
TICK_S = 0.005
# Reading two clocks takes microseconds, unless something came in between.
READ_NS_MAX = 1_000_000
JUMP_NS_MIN = 1_000_000

seed = sys.argv[2]
nonce = os.urandom(16).hex()
ticks = 0
# Of the real-time clock against the monotonic one, which nobody sets: the first, and one after each jump.
offsets_ns = []
memory = None
carried = random.Random()
ssl.RAND_bytes(16)


def clock_offset_ns():
    while True:
        before = time.monotonic_ns()
        now = time.time_ns()
        after = time.monotonic_ns()
        if after - before < READ_NS_MAX:
            return now - (before + after) // 2


def tick():
    global ticks
    while True:
        ticks += 1
        offset = clock_offset_ns()
        if not offsets_ns or abs(offset - offsets_ns[-1]) > JUMP_NS_MIN:
            offsets_ns.append(offset)
        time.sleep(TICK_S)


def content(kind, index, version):
    """Of a page or block; version 0 is zeros."""
    if version == 0:
        return bytes(PAGE)
    return hashlib.sha256(f"{seed}/{kind}/{index}/{version}".encode()).digest() * (PAGE // 32)


def changes(kind, count, cycle, total):
    """Which of them a cycle changes, and to which version: every third to zeros."""
    for i in range(count):
        digest = hashlib.sha256(f"{seed}/{kind}/change/{cycle}/{i}".encode()).digest()
        yield int.from_bytes(digest[:4], "big") % total, cycle if i % 3 else 0


def fill(pages, blocks):
    global memory
    memory = mmap.mmap(-1, pages * PAGE)
    for i in range(pages):
        memory[i * PAGE : (i + 1) * PAGE] = content("page", i, 1)
    os.makedirs(os.path.dirname(FILE), exist_ok=True)
    with open(FILE, "wb") as file:
        for i in range(blocks):
            file.write(content("block", i, 1))
        os.fsync(file.fileno())
    return {}


def change(cycle, pages, blocks, is_synced):
    for index, version in changes("page", pages, cycle, len(memory) // PAGE):
        memory[index * PAGE : (index + 1) * PAGE] = content("page", index, version)
    with open(FILE, "r+b") as file:
        total = os.fstat(file.fileno()).st_size // PAGE
        for index, version in changes("block", blocks, cycle, total):
            file.seek(index * PAGE)
            file.write(content("block", index, version))
        file.flush()
        if is_synced:
            os.fsync(file.fileno())
    change_names(cycle)
    return {}


def change_names(cycle):
    """Work for the file system's journal."""
    home = os.path.dirname(FILE)
    os.mkdir(f"{home}/new")
    with open(f"{home}/new/number", "w") as file:
        file.write(str(cycle))
    os.rename(f"{home}/new", f"{home}/{cycle}")
    old = f"{home}/{cycle - NAMES_KEPT}"
    if os.path.exists(old):
        os.unlink(f"{old}/number")
        os.rmdir(old)


def check():
    """Digests of memory, of the file as the page cache has it, and as the disk does."""
    with open(FILE, "r+b") as file:
        cached = hashlib.md5(file.read()).hexdigest()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        stored = hashlib.md5(file.read()).hexdigest()
    names = sorted(name for name in os.listdir(os.path.dirname(FILE)) if name.isdigit())
    numbers = [open(f"{os.path.dirname(FILE)}/{name}/number").read() for name in names]
    return {
        "memory": hashlib.md5(memory).hexdigest(),
        "cached": cached,
        "stored": stored,
        "areNamesWhole": names == numbers,
    }


def pages():
    return [zlib.crc32(memory[i : i + PAGE]) for i in range(0, len(memory), PAGE)]


def state():
    boot_id = open("/proc/sys/kernel/random/boot_id").read().strip()
    return {"nonce": nonce, "bootId": boot_id, "ticks": ticks}


def clock():
    return {"nowMs": time.time_ns() / 1e6, "offsetsMs": [offset / 1e6 for offset in offsets_ns]}


def in_child(draw):
    """What a child draws that is forked now."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, draw().encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.wait()
    return text


def draw():
    """Numbers and names of this process, which is older than what the guest was restored from."""
    return {
        "fresh": {
            "kernel": open("/proc/sys/kernel/random/uuid").read().strip(),
            "urandom": os.urandom(16).hex(),
            "secrets": secrets.token_hex(16),
            "uuid4": str(uuid.uuid4()),
            "seeded": random.Random().random(),
            "child's OpenSSL": in_child(lambda: ssl.RAND_bytes(16).hex()),
            "hostname": socket.gethostname(),
            "machine-id": open("/etc/machine-id").read().strip(),
            "capsule": open("/run/wrenn/.WRENN_SANDBOX_ID").read().strip(),
        },
        "carried": {"random": carried.random(), "OpenSSL": ssl.RAND_bytes(16).hex()},
    }


def answer(words):
    name, *numbers = words.split()
    asked = {"fill": fill, "change": change, "check": check, "pages": pages, "state": state}
    asked.update({"clock": clock, "draw": draw})
    return asked[name](*map(int, numbers))


def main():
    threading.Thread(target=tick, daemon=True).start()
    server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
    while True:
        connection, _ = server.accept()
        with connection, connection.makefile("rw") as stream:
            json.dump(answer(stream.readline()), stream)


main()
