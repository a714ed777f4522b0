// A piece of a plan as the client keeps it: checked, with its box and ids at hand.
#ifndef CKPT_CLIENT_RESTORE_STORED_PIECE_H_
#define CKPT_CLIENT_RESTORE_STORED_PIECE_H_

#include <string>

#include "ckpt/v1/restore.pb.h"
#include "common/box.h"
#include "common/ids.h"

namespace ckpt {

struct StoredPiece {
  v1::Piece piece;
  Box box;
  FileId file;       // none() where Piece.unreadable says why
  FileId disk_file;  // none() where there is no second copy
  std::string key;   // printed, for errors
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_RESTORE_STORED_PIECE_H_
