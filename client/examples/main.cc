// train_lm: a small language model, trained by several processes, that checkpoints through ckptd.
#include "client/examples/launcher.h"
#include "client/examples/options.h"
#include "client/examples/trainer.h"

int main(int argc, char** argv) {
  const train_lm::Options options = train_lm::ParseOptions(argc, argv);
  if (options.role == train_lm::Role::kLaunch) return train_lm::Launch(options, argc, argv);
  return train_lm::Train(options);
}
