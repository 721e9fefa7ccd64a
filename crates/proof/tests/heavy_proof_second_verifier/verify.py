"""A second verifier of epoch proofs and joining (matrix) proofs, written from docs/PROOF.md alone and sharing no line with the first.

verify.py FILE: prints `holds`, or fails with the first check that does not. Slow, and meant to be read.
"""
import base64
import json
import struct
import sys

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WORD = 0xFFFFFFFF
P = (1 << 61) - 1
ZERO = bytes(32)


def H(context, *parts):
    return blake3(b"".join(parts), derive_key_context=context).digest()


class X:
    """An endless stream of u64."""

    def __init__(self, context, *parts):
        self.hash = blake3(b"".join(parts), derive_key_context=context)
        self.at = 0

    def next(self):
        (value,) = struct.unpack("<Q", self.hash.digest(length=8, seek=self.at))
        self.at += 8
        return value


def u32(x):
    return struct.pack("<I", x)


def words(key):
    return list(struct.unpack("<8I", key))


def turn(v, n):
    return ((v << n) | (v >> (32 - n))) & WORD


def block(key, number, tag, rounds):
    """ChaCha: sixteen words."""
    start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574] + words(key) + [number, 0, tag, 0]
    s = start[:]

    def quarter(a, b, c, d):
        s[a] = (s[a] + s[b]) & WORD
        s[d] = turn(s[d] ^ s[a], 16)
        s[c] = (s[c] + s[d]) & WORD
        s[b] = turn(s[b] ^ s[c], 12)
        s[a] = (s[a] + s[b]) & WORD
        s[d] = turn(s[d] ^ s[a], 8)
        s[c] = (s[c] + s[d]) & WORD
        s[b] = turn(s[b] ^ s[c], 7)

    for _ in range(rounds):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return [(a + b) & WORD for a, b in zip(s, start)]


def walk_segment(state, fill, memory, steps, number):
    regions, stay = memory.get("regions", 1), memory.get("stay", 0)
    blocks = memory["blocks"] // regions
    s = state[:]
    for i in range(steps):
        region = (number * steps + i) // stay % regions if stay else 0
        v = block(fill, region * blocks + s[3] % blocks, 3, memory["rounds"])
        for q in range(4):
            for i in range(4):
                s[i] = ((s[i] ^ v[4 * q + i]) * 0x9E3779B1) & WORD
                s[i] ^= s[i] >> 15
            s[0] = (s[0] + s[3]) & WORD
            s[1] = (s[1] + s[0]) & WORD
            s[2] = (s[2] + s[1]) & WORD
            s[3] = (s[3] + s[2]) & WORD
    return s


def alu_segment(state, key, steps):
    s = state[:]
    for i in range(steps):
        k = words(key)[4 * (i % 2) :][:4]
        t = [(s[j] * 0x85EBCA6B + k[j]) & WORD for j in range(4)]
        s = [turn(t[j] ^ (t[(j + 1) % 4] >> (t[(j + 3) % 4] & 15)), 13) for j in range(4)]
    return s


UNIT_LEAF = H("gangline 2026 proof chain tree leaf")
ROW_LEAF = H("gangline 2026 proof matrix tree leaf")
NODE = H("gangline 2026 proof matrix tree node")


def root(n, index, leaf, path):
    for level, sibling in enumerate(path, 1):
        left, right = (leaf, sibling) if (index >> (level - 1)) & 1 == 0 else (sibling, leaf)
        leaf = blake3(u32(n) + u32(level) + u32(index >> level) + left + right, key=NODE).digest()
    return leaf


def pieces(data, size):
    return [data[i : i + size] for i in range(0, len(data), size)]


def check(holds, what):
    if not holds:
        sys.exit(f"does not hold: {what}")


def gpu_bytes(text):
    """An id's 16 bytes: 26 digits of Crockford's base 32 after the underscore."""
    value = 0
    for digit in text.split("_")[1]:
        value = value * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(digit)
    return value.to_bytes(17, "big")[-16:]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        t = json.load(file)
    joining(t) if "format" not in t else epoch(t)
    print("holds")


def joining(t):
    challenge, roots, nonce = t["challenge"], t["commitment"]["roots"], bytes.fromhex(t["nonce"])
    roots, opened, params = [bytes.fromhex(one) for one in roots], t["opening"]["steps"], challenge["params"]
    beacon, binding = bytes.fromhex(challenge["beacon"]), bytes.fromhex(challenge["binding"])
    check(len(roots) == len(opened) == params["steps"], "number of products")
    numbers = [u32(params[name]) for name in ("n", "steps", "rows")]
    digest = H("gangline 2026 proof matrix challenge", *numbers, beacon, binding)
    if t.get("signed"):
        key = bytes.fromhex(t["signed"]["key"])
        check(bound(key, gpu_bytes(t["gpu"])) == binding, "binding")
        message = [digest, nonce, struct.pack("<Q", len(roots)), *roots, *all_steps(opened)]
        is_signed(key, t["signed"]["signature"], H("gangline 2026 proof matrix signature", *message))
    products_hold(params, opened, roots, digest, nonce)


def bound(key, gpu):
    return H("gangline 2026 proof epoch binding of a GPU's key and a GPU", key, gpu)


def items(text, width):
    raw = base64.b64decode(text, validate=True)
    return struct.pack("<Q", len(raw) // width) + raw


def all_steps(opened):
    parts = [struct.pack("<Q", len(opened))]
    for step in opened:
        parts += [items(step["y"], 8), items(step["rows"], 4), items(step["paths"], 32)]
    return parts


def is_signed(key, signature, message):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(base64.b64decode(signature), message)
    except Exception:  # noqa: BLE001 - whatever is wrong with it
        check(False, "signature")


def epoch(t):
    check(t["format"] == "gangline epoch proof 1", "format")
    challenge, commitment, opening = t["challenge"], t["commitment"], t["opening"]
    params = challenge["params"]
    memory, walk, alu, matrix = (params[name] for name in ("memory", "walk", "alu", "matrix"))
    key, nonce = bytes.fromhex(t["key"]), bytes.fromhex(t["nonce"])
    beacon, binding = bytes.fromhex(challenge["beacon"]), bytes.fromhex(challenge["binding"])
    gpu = gpu_bytes(t["gpu"])
    check(bound(key, gpu) == binding, "binding")

    numbers = [memory["blocks"], memory["rounds"]]
    for chain in (walk, alu):
        numbers += [chain[name] for name in ("units", "segments", "steps", "opened")]
    numbers += [matrix[name] for name in ("n", "steps", "rows")] if matrix else [0, 0, 0]
    check(memory.get("regions", 1) > 1 or memory.get("stay", 0) == 0, "a single region is never left")
    if memory.get("regions", 1) > 1:
        numbers += [memory["regions"], memory["stay"]]
    seed = H("gangline 2026 proof epoch seed", *map(u32, numbers), beacon, binding)
    roots = {name: bytes.fromhex(commitment[name]) for name in ("walk", "alu", "last_walk")}
    products = [bytes.fromhex(product) for product in commitment["matrix"]]
    check(len(products) == (matrix["steps"] if matrix else 0), "number of products")
    fill = H("gangline 2026 proof epoch fill", seed, ZERO)
    walk_key = H("gangline 2026 proof epoch walk", seed, ZERO)
    alu_key = H("gangline 2026 proof epoch alu", seed, roots["walk"])
    digest = H("gangline 2026 proof epoch matrix", seed, roots["alu"])
    last_key = H("gangline 2026 proof epoch last walk", seed, products[-1] if products else roots["alu"])
    all_roots = [roots["walk"], roots["alu"], *products, roots["last_walk"]]
    draw = H("gangline 2026 proof epoch draw", seed, nonce, *all_roots)

    def walked(state, number):
        return walk_segment(state, fill, memory, walk["steps"], number)

    def mixed(state, _number):
        return alu_segment(state, alu_key, alu["steps"])

    for part, name, chain, start, segment in (
        (1, "walk", walk, walk_key, walked),
        (2, "alu", alu, alu_key, mixed),
        (4, "last_walk", walk, last_key, walked),
    ):
        units, segments = chain["units"], chain["segments"]
        depth = (units - 1).bit_length()
        states = pieces(base64.b64decode(opening[name]["states"], validate=True), 16 * segments)
        paths = pieces(base64.b64decode(opening[name]["paths"], validate=True), 32 * depth)
        check(len(states) == len(paths) == chain["opened"], f"lengths of {name}")
        picks = X("gangline 2026 proof epoch picks", draw, u32(part))
        for raw, path in zip(states, paths):
            unit, drawn = divmod(picks.next() % (units * segments), segments)
            leaf = blake3(u32(units) + u32(unit) + raw, key=UNIT_LEAF).digest()
            check(root(units, unit, leaf, pieces(path, 32)) == roots[name], f"unit {unit} of {name}")
            after = [list(struct.unpack("<4I", state)) for state in pieces(raw, 16)]
            before = after[drawn - 1] if drawn else block(start, unit, 4, 4)[:4]
            check(segment(before, drawn) == after[drawn], f"segment {drawn} of unit {unit} of {name}")

    if matrix:
        products_hold(matrix, opening["matrix"], products, digest, draw)
    signed = [seed, nonce, roots["walk"], roots["alu"], u32(len(products)), *products, roots["last_walk"]]
    for name in ("walk", "alu", "last_walk"):
        signed += [items(opening[name]["states"], 4), items(opening[name]["paths"], 32)]
    signed += all_steps(opening["matrix"])
    is_signed(key, t["signature"], H("gangline 2026 proof epoch signature", *signed))


def products_hold(matrix, opened, roots, digest, nonce):
    n = matrix["n"]
    draw = H("gangline 2026 proof matrix draw", digest, nonce, *roots)
    ys = [struct.unpack(f"<{n}Q", base64.b64decode(step["y"], validate=True)) for step in opened]
    check(all(element < P for y in ys for element in y), "elements of y")
    places = X("gangline 2026 proof matrix rows", draw, *(struct.pack(f"<{n}Q", *y) for y in ys))
    before, depth = ZERO, (n - 1).bit_length()
    for number, (step, y, expected) in enumerate(zip(opened, ys, roots)):
        stream = X("gangline 2026 proof matrix vector", draw, u32(number))
        r = [(stream.next() & P) % P for _ in range(n)]
        order = list(range(n))
        for i in range(matrix["rows"]):
            j = i + places.next() % (n - i)
            order[i], order[j] = order[j], order[i]
        rows = pieces(base64.b64decode(step["rows"], validate=True), 4 * n)
        paths = pieces(base64.b64decode(step["paths"], validate=True), 32 * depth)
        check(len(rows) == len(paths) == matrix["rows"], f"lengths of product {number}")
        for i, row, path in zip(sorted(order[: matrix["rows"]]), rows, paths):
            leaf = blake3(u32(n) + u32(i) + row, key=ROW_LEAF).digest()
            check(root(n, i, leaf, pieces(path, 32)) == expected, f"row {i} of product {number}")
            entries = struct.unpack(f"<{n}i", row)
            check(sum(a * b for a, b in zip(entries, r)) % P == y[i], f"row {i} against y of product {number}")
        key = H("gangline 2026 proof matrix step", digest, u32(number), before)
        a, b = (matrix_of(key, tag, n) for tag in (1, 2))
        br = [sum(b[j * n + k] * r[j] for j in range(n)) % P for k in range(n)]
        abr = [sum(a[i * n + k] * br[k] for k in range(n)) % P for i in range(n)]
        check(abr == list(y), f"y of product {number}")
        before = expected


def matrix_of(key, tag, n):
    stream = b"".join(struct.pack("<16I", *block(key, i, tag, 4)) for i in range(n * n // 64))
    return struct.unpack(f"<{n * n}b", stream)


main()
