/*
 * winsize: `winsize <columns> <rows>` sets the size of the terminal that is its standard input.
 * The kernel then tells the terminal's foreground process group by SIGWINCH.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

int main(int argc, char **argv) {
  struct winsize size = {0};

  if (argc != 3) return 2;
  size.ws_col = (unsigned short)strtoul(argv[1], NULL, 10);
  size.ws_row = (unsigned short)strtoul(argv[2], NULL, 10);
  if (ioctl(0, TIOCSWINSZ, &size) < 0) {
    perror("set terminal size");
    return 1;
  }
  return 0;
}
