#include <unistd.h>

#include <iostream>

#include "server/observe/log.h"
#include "server/offline/command.h"

int main(int argc, char** argv) {
  // The verbs say themselves what they found.
  ckpt::observe::ConfigureLog({.sink = [](const std::string&) {}});
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return ckpt::offline::RunCommand(arguments, {std::cout, std::cerr, isatty(STDERR_FILENO) == 1});
}
