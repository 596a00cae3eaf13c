// nginx with a private configuration on loopback: the peer of our proxy.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../scripts/dev/ports.ts";
import { waitFor } from "../../scripts/dev/run.ts";

export class Nginx implements AsyncDisposable {
  readonly origin: string;
  readonly #child: Bun.Subprocess;
  readonly #dir: string;

  private constructor(child: Bun.Subprocess, options: { dir: string; port: number }) {
    this.#child = child;
    this.#dir = options.dir;
    this.origin = `http://127.0.0.1:${options.port}`;
  }

  /** One worker, as our proxy has one thread, with kept connections on both sides. */
  static async open(upstream: string): Promise<Nginx> {
    const dir = await mkdtemp(join(tmpdir(), "wrenn-nginx-"));
    const port = await freePort();
    const config = join(dir, "nginx.conf");
    await writeFile(config, configuration({ dir, port, upstream }));
    const command = ["nginx", "-p", dir, "-c", config, "-e", join(dir, "error.log")];
    const child = Bun.spawn(command, { stdio: ["ignore", "ignore", "inherit"] });
    const nginx = new Nginx(child, { dir, port });
    await waitFor("nginx", async () => {
      await (await fetch(`${nginx.origin}/`)).arrayBuffer();
    });
    return nginx;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGQUIT");
    await this.#child.exited;
    await rm(this.#dir, { recursive: true, force: true });
  }
}

function configuration(options: { dir: string; port: number; upstream: string }): string {
  const { dir, port, upstream } = options;
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${dir}/${name};`)
    .join("\n  ");
  return `daemon off;
worker_processes 1;
user root;
pid ${dir}/nginx.pid;
events { worker_connections 4096; }
http {
  access_log off;
  ${temporary}
  keepalive_requests 1000000;
  upstream server { server ${upstream}; keepalive 256; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:${port};
    client_max_body_size 0;
    location / {
      proxy_pass http://server;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
    }
  }
}
`;
}
