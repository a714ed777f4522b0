// One rank's training: model, data, optimizer and checkpoints put together.
#ifndef CKPT_CLIENT_EXAMPLES_TRAINER_H_
#define CKPT_CLIENT_EXAMPLES_TRAINER_H_

#include "client/examples/options.h"

namespace train_lm {

// Returns the process's exit status; says on stderr what went wrong. Torch's exceptions stop here.
int Train(const Options& options);

}  // namespace train_lm

#endif  // CKPT_CLIENT_EXAMPLES_TRAINER_H_
