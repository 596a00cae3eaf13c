/* The guest's network, as the host expects it. Not for general use: the addresses are fixed because
 * every capsule sits alone in its network namespace on the host. */
#ifndef WRENN_NETWORK_H
#define WRENN_NETWORK_H

#define GUEST_INTERFACE "eth0"
#define GUEST_ADDRESS "169.254.0.21"
#define GUEST_NETMASK "255.255.255.252" /* /30 */
#define GUEST_GATEWAY "169.254.0.22"

/* Brings lo up and, where the kernel's ip= parameter has not done so, gives eth0 its address and
 * the default route. Every failure is reported on the console and the rest still tried; returns 0
 * or the last -errno. Waits for eth0 to appear for at most a second. */
int network_configure(void);

#endif
