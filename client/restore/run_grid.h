// The contiguous runs by which a region moves from one dense row-major array to another, as
// arithmetic: the n-th run is computed, not listed, so that a reader can start at any byte.
#ifndef CKPT_CLIENT_RESTORE_RUN_GRID_H_
#define CKPT_CLIENT_RESTORE_RUN_GRID_H_

#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "common/box.h"

namespace ckpt {

class RunGrid {
 public:
  // `region` is not empty and lies in both boxes. All offsets below are bytes.
  RunGrid(const Box& region, const Box& source, const Box& destination, uint64_t element_bytes);

  uint64_t count() const { return count_; }
  uint64_t run_bytes() const { return run_bytes_; }  // all runs are equally long
  uint64_t SourceAt(uint64_t run) const;             // ascending in `run`
  uint64_t DestinationAt(uint64_t run) const;
  // The first run that ends beyond `source_offset`; count() if none does.
  uint64_t FirstEndingAfter(uint64_t source_offset) const;

  // Calls move(source, destination, bytes) for each run's part within source bytes [begin, end).
  void ForEachWithin(
      uint64_t begin, uint64_t end,
      absl::FunctionRef<void(uint64_t source, uint64_t destination, uint64_t bytes)> move) const;

 private:
  struct Dimension {
    uint64_t extent;
    uint64_t source_stride;
    uint64_t destination_stride;
  };
  absl::InlinedVector<Dimension, 4> outer_;  // outermost first; the runs are what lies within
  uint64_t count_ = 1;
  uint64_t run_bytes_ = 0;
  uint64_t source_begin_ = 0;
  uint64_t destination_begin_ = 0;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_RESTORE_RUN_GRID_H_
