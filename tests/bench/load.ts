// A load generator: so many connections, each asking again as soon as it was answered. Runs as a program of
// its own (main.ts spawns it), so that it and the server don't share an event loop.
//
//   bun tests/bench/load.ts <url> <connections> <milliseconds> <header-name> <header-value>

export {};

const [url = "", connections = "1", durationMs = "1000", header = "", value = ""] =
  process.argv.slice(2);
const deadline = performance.now() + Number(durationMs);
const headers: Record<string, string> = header === "" ? {} : { [header]: value };

const counts = await Promise.all(Array.from({ length: Number(connections) }, worker));
const requests = counts.reduce((sum, count) => sum + count, 0);
console.log(JSON.stringify({ requestsPerSecond: (requests * 1000) / Number(durationMs) }));

async function worker(): Promise<number> {
  let count = 0;
  for (; performance.now() < deadline; count++) {
    const response = await fetch(url, { headers });
    await response.arrayBuffer();
    if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  }
  return count;
}
