// Starts the rank processes, as torchrun would: this same program, executed afresh for each rank,
// before this process has touched Torch or gRPC.
#ifndef CKPT_CLIENT_EXAMPLES_LAUNCHER_H_
#define CKPT_CLIENT_EXAMPLES_LAUNCHER_H_

#include "client/examples/options.h"

namespace train_lm {

// Waits for all ranks. When one of them dies the others are killed: they could only hang in the
// next collective. The ranks die with the launcher. Returns the exit status: 0, or 1 after a line
// on stderr that names the rank.
int Launch(const Options& options, int argc, char** argv);

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_LAUNCHER_H_
