import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { waitFor } from "../tests/harness/wait-for.ts";
import { MessageProgram } from "./message-program.ts";

/** It answers each message with itself. */
const ECHO = "/bin/cat";

/** The pids of children of this process that run it. */
function running(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^[0-9]+$/.test(name))
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
        return (
          stat.startsWith(`${pid} (cat) `) &&
          stat.split(") ")[1]?.split(" ")[1] === `${process.pid}`
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}

test("messages are answered in turn, by a program that is started again when it has ended", async () => {
  const program = new MessageProgram(ECHO);
  const answers = await Promise.all([
    program.ask(["a", "b"]),
    program.ask([""]),
    program.ask(["c"]),
  ]);
  const [first, ...others] = running();
  if (first === undefined) throw new Error("it does not run");
  process.kill(first, "SIGKILL");
  await waitFor("its end", () => running().length, { holds: (count) => count === 0 });

  expect([answers, others]).toEqual([[["a", "b"], [""], ["c"]], []]);
  expect(await program.ask(["again"])).toEqual(["again"]);
  process.kill(running()[0] ?? 0, "SIGKILL");
});

test("a message whose program ends fails alone, and the next one has another program", async () => {
  const dir = await mkdtemp(join(tmpdir(), "envd-program-"));
  const path = join(dir, "program");
  // The first one takes the message, four bytes of length and two, and answers nothing.
  const script = `#!/bin/sh
    [ -e ${path}.was ] && exec ${ECHO}
    : > ${path}.was
    head -c 6 > /dev/null
    exit 3
  `;
  await writeFile(path, script, { mode: 0o755 });
  const program = new MessageProgram(path);

  const first = await program.ask(["a"]).catch((error: Error) => error.message);
  const next = await program.ask(["b"]);
  await rm(dir, { recursive: true });

  expect(first).toBe(`${path} ended with status 3`);
  expect(next).toEqual(["b"]);
  process.kill(running()[0] ?? 0, "SIGKILL");
});
