// Bun's TLS sockets as wires. A server secures each connection after it was accepted, so that the certificate
// may be another one for every connection.

import type { Socket, SocketHandler, TLSUpgradeOptions } from "bun";
import { type SocketWire, wireHandlers } from "./socket-wire.ts";
import { type ClientTls, nameOf, type ServerTls, tlsOptions } from "./tls.ts";

/** Less than a client waits for a connection. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/**
 * Handlers for `Bun.listen`. `admit` is asked before the handshake: null closes the connection, a Disposable is
 * given to `opened` with the wire, or disposed if the client turns out to be nobody that `tls` admits.
 */
export function securedHandlers(
  tls: ServerTls,
  {
    admit,
    opened,
  }: {
    admit: (address: string) => Disposable | null;
    opened: (wire: SocketWire, admitted: Disposable) => void;
  },
): SocketHandler<undefined> {
  return {
    open(socket) {
      const admitted = admit(socket.remoteAddress);
      if (admitted === null) socket.terminate();
      else secure(socket, tls, { admitted, opened });
    },
    // From here on the secured socket has them.
    data() {},
    error() {},
  };
}

function secure(
  raw: Socket<undefined>,
  tls: ServerTls,
  { admitted, opened }: { admitted: Disposable; opened: (wire: SocketWire, d: Disposable) => void },
): void {
  const timer = setTimeout(() => raw.terminate(), HANDSHAKE_TIMEOUT_MS);
  let isTaken = false;
  const handlers = wireHandlers(() => {});
  const options: TLSUpgradeOptions<SocketWire> & { isServer: true } = {
    isServer: true,
    tls: { ...tlsOptions(tls.identity()), requestCert: true },
    socket: {
      ...handlers,
      open() {},
      handshake(socket, isAuthorized) {
        clearTimeout(timer);
        const name = isAuthorized ? nameOf(socket.getPeerCertificate()) : null;
        if (name === null || !tls.admits(name)) {
          socket.terminate();
          return;
        }
        isTaken = true;
        handlers.open?.(socket);
        opened(socket.data, admitted);
      },
      close(socket) {
        clearTimeout(timer);
        if (isTaken) socket.data.closed();
        else admitted[Symbol.dispose]();
      },
    },
  };
  raw.upgradeTLS<SocketWire>(options);
}

/** Handlers for `Bun.connect` with the options of `clientOptions`: opened once both sides know each other. */
export function securedClientHandlers(
  opened: (wire: SocketWire) => void,
  failed: (error: Error) => void,
): SocketHandler<SocketWire> {
  const handlers = wireHandlers(opened, failed);
  return {
    ...handlers,
    open() {},
    handshake(socket, isAuthorized, error) {
      if (isAuthorized) return handlers.open?.(socket);
      failed(error ?? new Error("the server's certificate is not what was asked for"));
      socket.terminate();
    },
    close(socket, error) {
      if (socket.data === undefined) failed(error ?? new Error("it ended during the handshake"));
      else socket.data.closed();
    },
  };
}

export function clientOptions({ identity, serverName }: ClientTls) {
  return { ...tlsOptions(identity()), serverName };
}
