#include "server/rpc/stalled_readers.h"

#include <string>

#include "server/observe/log.h"

namespace ckpt {

StalledReaders::StalledReaders(absl::Duration patience)
    : writes_(patience, [patience](const std::string& peer) {
        observe::Warning("a reader takes nothing: its call was ended",
                         {{"peer", peer}, {"patience", patience}});
      }) {}

}  // namespace ckpt
