import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectInDirectory } from "./connect-in-directory.ts";

let directory: string;
let elsewhere: string;
let server: Server;

beforeAll(async () => {
  const base = await mkdtemp(join(tmpdir(), "wrenn-connect-"));
  // Longer than a socket's address may be.
  directory = join(base, "d".repeat(120));
  elsewhere = join(base, "other.sock");
  await mkdir(directory);
  const { promise, resolve } = Promise.withResolvers<void>();
  server = createServer((socket) => socket.end("hello")).listen(elsewhere, resolve);
  await promise;
});
afterAll(async () => {
  server.close();
  await rm(join(directory, ".."), { recursive: true });
});

test("a socket is found by its name, and a missing one is said to be missing", async () => {
  const socket = await connectInDirectory(join(directory, ".."), "other.sock");
  socket.destroy();

  await expect(connectInDirectory(directory, "none")).rejects.toThrow("ENOENT");
});

test("whoever owns the directory cannot lead the agent to another socket", async () => {
  await symlink(elsewhere, join(directory, "link"));
  await writeFile(join(directory, "file"), "");

  await expect(connectInDirectory(directory, "link")).rejects.toThrow("ECONNREFUSED");
  await expect(connectInDirectory(directory, "file")).rejects.toThrow("ECONNREFUSED");
});
