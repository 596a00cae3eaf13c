import { expect, test } from "bun:test";
import { ListenerTable, parseListeners } from "./listeners.ts";

test("listening sockets are told apart by address and state", () => {
  const head = "  sl  local_address rem_address   st tx_queue rx_queue\n";
  const tail = " 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n";
  const row = (local: string, state: string) => `   0: ${local} 00000000:0000 ${state}${tail}`;
  const tcp =
    head + row("0100007F:1F90", "0A") + row("00000000:0050", "0A") + row("0100007F:0016", "01");
  const six = "00000000000000000000000001000000";
  const tcp6 =
    head +
    row(`${six}:0BB8`, "0A") +
    row(`${six}:1F90`, "0A") +
    row(`${"0".repeat(32)}:01BB`, "0A");

  const { loopback, reachable } = parseListeners(tcp, tcp6);
  expect([...loopback]).toEqual([
    [8080, "127.0.0.1"],
    [3000, "::1"],
  ]);
  expect([...reachable]).toEqual([80, 443]);
});

test("this machine's own are found", async () => {
  await using server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });

  expect(new ListenerTable().read().loopback.get(server.port ?? 0)).toBe("127.0.0.1");
});
