import { expect, test } from "bun:test";
import { refusedOptions } from "./optimised-kernel.ts";

test("options that a kernel does not take are named", () => {
  const wanted = "# Time\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_NR=32\n";
  const effective = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_NR=64\n";

  expect(refusedOptions(wanted, effective)).toEqual(["CONFIG_B=y", "CONFIG_NR=32"]);
});
