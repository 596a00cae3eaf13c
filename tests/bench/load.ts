// A load generator: so many connections, each asking again as soon as it was answered, for one URL or for
// several in turn. Runs as a program of its own (main.ts spawns it), so that it and the server don't share
// an event loop.
//
//   bun tests/bench/load.ts <url>[,<url>…] <connections> <milliseconds> <header-name> <header-value>

export {};

const [given = "", connections = "1", durationMs = "1000", header = "", value = ""] =
  process.argv.slice(2);
const urls = given.split(",");
const deadline = performance.now() + Number(durationMs);
const headers: Record<string, string> = header === "" ? {} : { [header]: value };

const counts = await Promise.all(Array.from({ length: Number(connections) }, (_, i) => worker(i)));
const requests = counts.reduce((sum, count) => sum + count, 0);
console.log(JSON.stringify({ requestsPerSecond: (requests * 1000) / Number(durationMs) }));

async function worker(first: number): Promise<number> {
  let count = 0;
  for (; performance.now() < deadline; count++) {
    const url = urls[(first + count) % urls.length] ?? "";
    const response = await fetch(url, { headers });
    await response.arrayBuffer();
    if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  }
  return count;
}
