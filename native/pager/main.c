#include "pager.h"

int main(int argc, char **argv) { return pager_run(argc, argv); }
