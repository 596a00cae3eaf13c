// The least that a hop can be in this runtime: bytes go from one of Bun's sockets to another, unread. Prints
// the port that it listens on: `bun tests/bench/bare-hop.ts <port>`.

import type { Socket } from "bun";

interface Side {
  other: Socket<Side> | null;
  early: Buffer[];
}

const port = Number(process.argv[2]);

const upstream = {
  data: ({ data }: Socket<Side>, bytes: Buffer) => void data.other?.write(bytes),
  close: ({ data }: Socket<Side>) => void data.other?.end(),
};

const listener = Bun.listen<Side>({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    async open(client) {
      client.data = { other: null, early: [] };
      client.setNoDelay(true);
      const data: Side = { other: client, early: [] };
      const server = await Bun.connect({ hostname: "127.0.0.1", port, data, socket: upstream });
      server.setNoDelay(true);
      for (const bytes of client.data.early) server.write(bytes);
      client.data = { other: server, early: [] };
    },
    data({ data }, bytes) {
      if (data.other === null) data.early.push(bytes);
      else data.other.write(bytes);
    },
    close: ({ data }) => void data.other?.end(),
  },
});
console.log(listener.port);
