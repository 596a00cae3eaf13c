/*
 * libwrenn: the kernel interfaces that the agent needs and JavaScript cannot reach.
 *
 * Conventions. Every function returns >= 0 on success and -errno on failure. Out-parameters are
 * called ret_x and stay untouched on failure, except text buffers, which may hold an explanation.
 * The caller owns every buffer; nothing is allocated for it. No function prints, exits or keeps
 * state. Descriptors are opened with O_CLOEXEC and closed before the return unless said otherwise.
 *
 * `netns` is the path of a network namespace (a bind mount such as /run/netns/name); NULL or ""
 * means the caller's own. A call that enters a namespace does so on a thread of the library's own,
 * which it joins: the caller's thread never changes namespace. IPv4 addresses are in host byte
 * order (10.0.0.1 is 0x0a000001).
 *
 * "Blocks" names what a call may wait for. Whatever may exceed a millisecond belongs in a Worker.
 */
#ifndef WRENN_H
#define WRENN_H

#include <stdint.h>

#define WRENN_API __attribute__((visibility("default")))

/* ---- netns.c: network namespaces. ---- */

/*
 * Makes `directory`, which must exist, a shared mount of itself unless it is a mount already, as
 * iproute2 does before its first namespace: done later, it would hide the namespaces mounted there.
 * Blocks: for whoever else is at it (a lock on the directory, iproute2's too).
 */
WRENN_API int32_t wrenn_netns_share_directory(const char *directory);

/*
 * Takes that mount away if the directory is empty; -ENOTEMPTY, -EINVAL (it is no mount) otherwise.
 */
WRENN_API int32_t wrenn_netns_unshare_directory(const char *directory);

/*
 * Makes a network namespace with nothing but its loopback device, which is up, and bind-mounts it
 * at `path`, whose directory must exist. Blocks: milliseconds (the kernel makes the namespace).
 * -EEXIST: `path` is there already. On failure nothing is left behind.
 */
WRENN_API int32_t wrenn_netns_create(const char *path);

/*
 * Unmounts and unlinks `path`. The kernel destroys the namespace, with every device in it, once the
 * last process and descriptor in it are gone, on its own time. A file that is not a mount (left by
 * a create that was killed half way) is only unlinked. -ENOENT: there is no such path.
 */
WRENN_API int32_t wrenn_netns_delete(const char *path);

/* ---- link.c: devices, addresses, routes by rtnetlink. Each blocks for the rtnl lock. ---- */

/*
 * Makes a veth pair: `name` in the caller's namespace and `peer` in `netns`. Both are down.
 * -EEXIST: either name is taken; -EINVAL: a name is empty or longer than 15 characters.
 */
WRENN_API int32_t wrenn_veth_create(const char *name, const char *peer, const char *netns);

/* Deletes a device; of a veth pair both ends. -ENODEV: there is none of that name. */
WRENN_API int32_t wrenn_link_delete(const char *netns, const char *name);

/* Brings a device up. With tx_queue_length > 0 its transmit queue is set too. -ENODEV as above. */
WRENN_API int32_t wrenn_link_up(const char *netns, const char *name, uint32_t tx_queue_length);

/*
 * Writes the names in the caller's namespace that start with `prefix`, each followed by '\n', and a
 * final NUL to ret_names. Returns the length without the NUL. -ENOSPC: the buffer is too small.
 */
WRENN_API int32_t wrenn_link_list(const char *prefix, char *ret_names, uint32_t size);

/* Adds address/prefix_length to a device. -EEXIST: it has it; -ENODEV: no such device. */
WRENN_API int32_t wrenn_address_add(const char *netns, const char *name, uint32_t address,
                                    uint32_t prefix_length);

/*
 * Adds a route to destination/prefix_length through `gateway` on a device that is up; 0/0 is the
 * default route. -EEXIST: there is one; -ENETUNREACH: the gateway is not on the device's link.
 */
WRENN_API int32_t wrenn_route_add(const char *netns, const char *name, uint32_t destination,
                                  uint32_t prefix_length, uint32_t gateway);

/*
 * Writes all IPv4 addresses and routes of the namespace, or of a device in it unless `name` is "",
 * to ret_text, in an order and a form that stay the same as long as nobody changes them, and a
 * final NUL. Returns the length without the NUL. -ENODEV: no such device; -ENOSPC: the buffer is
 * too small.
 */
WRENN_API int32_t wrenn_addressing_list(const char *netns, const char *name, char *ret_text,
                                        uint32_t size);

/* ---- rate.c: how fast a device sends, by the kernel's token bucket filter (tc-tbf(8)). ---- */

/*
 * Holds what `name` sends to bytes_per_s, over any time longer than that of burst_bytes at this
 * rate; up to queue_bytes wait, more are dropped. 0 bytes_per_s: as fast as it can again, whatever
 * it was held to. Packets that were offloaded whole and exceed the burst are cut by the kernel.
 * -ENODEV: no such device; -ENOENT: the kernel has no token bucket filter (CONFIG_NET_SCH_TBF).
 */
WRENN_API int32_t wrenn_rate_set(const char *netns, const char *name, uint64_t bytes_per_s,
                                 uint32_t burst_bytes, uint32_t queue_bytes);

/* 0 if this kernel can hold devices to a rate, -ENOENT if not; leaves nothing behind. */
WRENN_API int32_t wrenn_rate_try(void);

/* ---- tap.c ---- */

/*
 * Makes a persistent TAP device in `netns` without packet information, with virtio-net headers,
 * which `uid` may open without privilege. It is down. -EBUSY: the name is taken and in use;
 * -ENOENT: /dev/net/tun is missing. On failure nothing is left behind.
 */
WRENN_API int32_t wrenn_tap_create(const char *netns, const char *name, uint32_t uid);

/* ---- sysctl.c ---- */

/*
 * Writes `value` to /proc/sys/`key` (slashes, such as "net/ipv4/ip_forward") as `netns` sees it.
 * -ENOENT: the kernel has no such setting; -EINVAL: the key leaves /proc/sys.
 */
WRENN_API int32_t wrenn_sysctl_write(const char *netns, const char *key, const char *value);

/*
 * Reads the settings `keys`, with '\n' between them, as `netns` sees them. ret_text gets what the
 * kernel shows of each, a line ended by '\n' (an empty one: it has no such setting), and a final
 * NUL. Returns the length without the NUL. -EINVAL as above; -ENOSPC: the buffer is too small.
 */
WRENN_API int32_t wrenn_sysctl_read(const char *netns, const char *keys, char *ret_text,
                                    uint32_t size);

/* ---- nft.c: nftables by libnftables. ---- */

/*
 * Runs a buffer of nft commands in `netns` as one transaction: all of it applies or none. ret_text
 * (size >= 1, always NUL-terminated, truncated if need be) receives what the commands print, or on
 * -EINVAL nft's explanation. Blocks: milliseconds, and for other calls of this function, since
 * libnftables keeps process-wide state.
 */
WRENN_API int32_t wrenn_nft_run(const char *netns, const char *commands, char *ret_text,
                                uint32_t size);

/* ---- file.c: whole files. ---- */

/*
 * Makes `target` (which must not exist, mode 0600) a clone of `source` that shares its extents
 * (FICLONE). Blocks: for the write-back of what is dirty in `source`. -EOPNOTSUPP, -EINVAL or
 * -ENOTTY: the file system cannot; -EXDEV: two file systems; -EEXIST. On failure `target` is not
 * left behind.
 */
WRENN_API int32_t wrenn_file_reflink(const char *source, const char *target);

/*
 * Makes `target` (which must not exist, mode 0600) a copy of `source` with the same holes; of a
 * block device one of its size, with holes where it is zero. Blocks: for the whole copy, about a
 * second per GiB of data, and of a device per GiB of its size. -EINVAL: `source` is neither. On
 * failure `target` is not left behind.
 */
WRENN_API int32_t wrenn_file_copy_sparse(const char *source, const char *target);

/* Writes the bytes that a file or a block device holds to ret_bytes. -EINVAL: it is neither. */
WRENN_API int32_t wrenn_file_size(const char *path, uint64_t *ret_bytes);

/*
 * Finds the first stretch of `path` at or after `offset` that is not a hole, and writes its start
 * and end to ret_extent. Returns 1, or 0 if there is none up to the end of the file.
 */
WRENN_API int32_t wrenn_file_next_data(const char *path, uint64_t offset, uint64_t ret_extent[2]);

/*
 * Opens `path` (made with mode 0600 if missing) and locks it exclusively (flock) without waiting.
 * Returns the descriptor, which the caller owns; closing it, or the death of the process, unlocks.
 * -EWOULDBLOCK: another descriptor holds the lock.
 */
WRENN_API int32_t wrenn_file_lock(const char *path);

/* ---- descriptor-send.c ---- */

/*
 * Sends `text` together with an open descriptor, which stays the caller's, over a connected unix
 * socket (SCM_RIGHTS). Does not wait. -EAGAIN: the socket's buffer is full; -EMSGSIZE: only part of
 * the text was taken; -EPIPE: nobody reads any more.
 */
WRENN_API int32_t wrenn_descriptor_send(int32_t socket, const char *text, int32_t descriptor);

/* ---- loop.c: loop devices. ---- */

/*
 * Attaches the file `path` to a free loop device, read-only if asked. The device outlives the
 * process until wrenn_loop_detach. Returns the device's number (/dev/loop<n>). -ENOENT: no `path`
 * or no loop driver; -EBUSY: lost every race for a free device.
 */
WRENN_API int32_t wrenn_loop_attach(const char *path, int32_t read_only);

/*
 * Detaches the file of /dev/loop<index>; the kernel waits with it until the last user has closed
 * the device. -ENXIO: nothing is attached; -ENOENT: there is no such device.
 */
WRENN_API int32_t wrenn_loop_detach(uint32_t index);

/* ---- dm.c: device-mapper (linux/dm-ioctl.h). -ENOENT from each: the kernel has none. ---- */

/* Returns the interface's version, major in the upper half and minor in the lower 16 bits. */
WRENN_API int32_t wrenn_dm_version(void);

/*
 * Makes a device with no table and writes its number (as makedev does) to ret_device. -EBUSY: the
 * name is taken; -ENAMETOOLONG: more than 127 characters.
 */
WRENN_API int32_t wrenn_dm_create(const char *name, uint64_t *ret_device);

/*
 * Loads a table into the inactive slot of `name`; wrenn_dm_resume activates it. Each of `lines` is
 * "<start> <sectors> <target> [<parameters>]", a sector being 512 bytes. Blocks: for the targets'
 * own set-up. -ENXIO: no such device; -EINVAL: malformed, or the kernel refuses it; -ENAMETOOLONG:
 * over 4 KiB.
 */
WRENN_API int32_t wrenn_dm_load(const char *name, const char *lines);

/* Activates the inactive table, if there is one, and lets I/O flow. -ENXIO: no such device. */
WRENN_API int32_t wrenn_dm_resume(const char *name);

/* Flushes and holds I/O. Blocks: until I/O under way is done. -ENXIO: no such device. */
WRENN_API int32_t wrenn_dm_suspend(const char *name);

/*
 * Holds I/O without writing out what waits in the host's cache. Blocks: until I/O under way is
 * done. -ENXIO: no such device.
 */
WRENN_API int32_t wrenn_dm_hold(const char *name);

/* Removes a device. -EBUSY: it is open; -ENXIO: no such device. */
WRENN_API int32_t wrenn_dm_remove(const char *name);

/*
 * Writes the status line of the first target of `name` to ret_status (NUL-terminated; for
 * "snapshot" see wrenn_dm_classify_snapshot). -ENXIO: no such device or no table; -ENOSPC: buffer
 * too small.
 */
WRENN_API int32_t wrenn_dm_status(const char *name, char *ret_status, uint32_t size);

/* Writes the names that start with `prefix`, as wrenn_link_list does. */
WRENN_API int32_t wrenn_dm_list(const char *prefix, char *ret_names, uint32_t size);

/* What the status line of a snapshot target says. */
enum wrenn_dm_snapshot {
  WRENN_DM_SNAPSHOT_ACTIVE = 0,   /* "<used>/<total> <metadata>" sectors */
  WRENN_DM_SNAPSHOT_INVALID = 1,  /* an exception could not be stored: contents are lost */
  WRENN_DM_SNAPSHOT_OVERFLOW = 2, /* the copy-on-write device is full */
  WRENN_DM_SNAPSHOT_MERGE_FAILED = 3,
};

/*
 * Reads such a line without asking the kernel. Returns an enum wrenn_dm_snapshot, and for ACTIVE
 * writes ret_sectors[0] = used and ret_sectors[1] = total. -EBADMSG: it is not such a line.
 */
WRENN_API int32_t wrenn_dm_classify_snapshot(const char *status, uint64_t ret_sectors[2]);

/* ---- mount.c ---- */

/* mount(2). `flags` are the kernel's MS_*; `options` may be empty. Blocks: for the file system. */
WRENN_API int32_t wrenn_mount(const char *source, const char *target, const char *type,
                              uint64_t flags, const char *options);

/* umount2(2) with MNT_* flags. -EINVAL: `target` is not a mount; -EBUSY: it is in use. */
WRENN_API int32_t wrenn_unmount(const char *target, uint32_t flags);

/* ---- tsc.c ---- */

/*
 * Measures the time stamp counter against CLOCK_MONOTONIC_RAW over `interval_ms` (10..1000) and
 * returns kHz. Blocks: for the interval. -EOPNOTSUPP: no such counter on this machine; -EINVAL.
 */
WRENN_API int32_t wrenn_tsc_khz(uint32_t interval_ms);

/* ---- landlock.c ---- */

/* The kernel's version of Landlock (landlock(7)); 0: it has none, or none that is on. */
WRENN_API int32_t wrenn_landlock_version(void);

/* ---- pages/: a guest's memory, page by page. docs/memory.md. ---- */

/*
 * Writes the pages of [address, address + size) that are a process's own (anonymous, or written
 * after a private mapping of a file) to ret_ranges as pairs start, end, ascending; `capacity` is in
 * pairs. Returns their number. Blocks: about 1 ms per GiB mapped. -ESRCH: no such process; -ENOSPC:
 * more ranges than fit; -EACCES.
 */
WRENN_API int32_t wrenn_pages_private(int32_t pid, uint64_t address, uint64_t size,
                                      uint64_t *ret_ranges, uint32_t capacity);

/*
 * Finds where a process has mapped the file `path` from `offset` on: ret_mapping is address and
 * size of the largest mapping that begins there. -ENXIO: nowhere; -ESRCH: no such process; -ENOENT:
 * no such file.
 */
WRENN_API int32_t wrenn_pages_find_mapping(int32_t pid, const char *path, uint64_t offset,
                                           uint64_t ret_mapping[2]);

/* Where a generation is written, and over which parent. */
struct wrenn_pages_target {
  const char *directory;         /* gets memory.header and, if there is data, memory.<uuid of id> */
  const char *parent_header;     /* NULL or "": there is no parent */
  const char *layer_directories; /* where the parent's layers are; one per line, at most 16 */
  uint8_t id[16];                /* of the build; names its layer */
};

/* What was done, in bytes: indexes of ret_counts. */
enum wrenn_pages_count {
  WRENN_PAGES_READ = 0,      /* looked at: the cost of the call follows it */
  WRENN_PAGES_DATA = 1,      /* stored */
  WRENN_PAGES_ZERO = 2,      /* became zero */
  WRENN_PAGES_UNCHANGED = 3, /* looked at, and equal to the parent's */
  WRENN_PAGES_COUNTS = 4,
};

/*
 * Saves a guest's memory of `total_bytes` (whole pages) that lies whole in the file `path`. A hole
 * of the file is memory never touched. Both files are synced. Blocks: for reading and writing what
 * is there, some 2 GB/s of memory. ret_text says why on failure; nothing is left behind then.
 * -EEXIST: there is such a layer or header already; -EBADMSG, -EIO: the parent is damaged; -E2BIG:
 * too many generations; -ENOSPC and others of write(2).
 */
WRENN_API int32_t wrenn_pages_seal_file(const char *path, uint64_t total_bytes,
                                        const struct wrenn_pages_target *target,
                                        uint64_t *ret_counts, char *ret_text, uint32_t text_size);

/*
 * Memory of a guest in its VMM: total_bytes at `address`, but for what begins at high_offset, if
 * that is not 0: that is at high_address. A guest of more than 3 GiB has a hole for devices below
 * 4 GiB, and its VMM two mappings.
 */
struct wrenn_process_memory {
  int32_t pid;
  uint64_t address;
  uint64_t total_bytes;
  uint64_t high_offset;
  uint64_t high_address;
};

/*
 * The same for memory that a *stopped* process was restored with: only pages
 * of its own are looked at, all others are as the parent has them, except those that `removed` (a
 * list written by the pager; NULL or "": none) names and that are not there: they are zeros.
 * -ESRCH.
 */
WRENN_API int32_t wrenn_pages_seal_process(const struct wrenn_process_memory *memory,
                                           const char *removed,
                                           const struct wrenn_pages_target *target,
                                           uint64_t *ret_counts, char *ret_text,
                                           uint32_t text_size);

/*
 * From now on the kernel notes which pages of [address, address + size) the process writes, where
 * wrenn-preload.so registered them for it. Blocks: some 5 ms per GiB that is there. A first write
 * to each page costs a fault more, once. -EOPNOTSUPP: not registered, or the kernel is older
 * than 6.7; -ESRCH. See PAGEMAP_SCAN in the kernel's admin-guide/mm/pagemap.rst.
 */
WRENN_API int32_t wrenn_pages_track(int32_t pid, uint64_t address, uint64_t size);

/*
 * As wrenn_pages_seal_process, over a parent that was saved from the running process after
 * wrenn_pages_track: only pages written since then are looked at, so that the process stands still
 * for these alone. MUST NOT be used if pages were given back meanwhile: they would be the parent's.
 */
WRENN_API int32_t wrenn_pages_seal_written(const struct wrenn_process_memory *memory,
                                           const struct wrenn_pages_target *target,
                                           uint64_t *ret_counts, char *ret_text,
                                           uint32_t text_size);

/*
 * Checks a generation's header, and that each layer it names is there, whole by its footer and
 * table; chunks of data are checked when they are read. ret_text gets the names of the layers'
 * files, each ended by a newline, or why it failed. Blocks: for reading a header. -ENOENT: a file
 * is missing; -EBADMSG, -EIO: one is torn or changed; -ENOSPC: the buffer is too small.
 */
WRENN_API int32_t wrenn_pages_check(const char *header, const char *layer_directories,
                                    uint64_t *ret_total_bytes, char *ret_text, uint32_t text_size);

/*
 * Writes the memory of a generation to the new file `path` (mode 0600, synced) as a flat file, to
 * be mapped: holes and zeros are its holes. Every chunk is checked. Blocks as sealing does.
 * ret_text says why on failure; nothing is left behind then. -EEXIST; -EBADMSG, -EIO, -ENOENT: it
 * is damaged.
 */
WRENN_API int32_t wrenn_pages_flatten(const char *header, const char *layer_directories,
                                      const char *path, char *ret_text, uint32_t text_size);

/*
 * Writes the generation target->parent_header anew as one that needs no other: a single layer, and
 * generation 0. It has the same memory, so that the old one can be deleted. Otherwise as above.
 */
WRENN_API int32_t wrenn_pages_merge(const struct wrenn_pages_target *target, char *ret_text,
                                    uint32_t text_size);

#endif
