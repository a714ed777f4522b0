// A hundredth of a checkpoint out of a cold disk, beside all of it; how many bytes the disk gives
// for it; and a view of the whole without reading any of it. The checkpoint is twice the
// benchmark's state (4 GiB by default), whose bytes it holds over and over.
#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/key.h"
#include "common/limits.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"
#include "tests/fixtures/process.h"

namespace ckpt::bench {
namespace {

// Rows that begin and end within blocks of the hash, so that a slice of them does, too.
constexpr uint64_t kRowBytes = (uint64_t{4} << 20) + (12 << 10);
constexpr uint64_t kTensors = 100;

// One tensor after another: U8 matrices, whole in one part.
struct Shapes {
  uint64_t tensors = 0;
  uint64_t rows = 0;  // of each
  uint64_t row_bytes = 0;
  uint64_t bytes() const { return tensors * rows * row_bytes; }
};

// What lies at `offset` of the checkpoint.
void CopyBytes(const SampleState& state, uint64_t offset, uint64_t bytes, std::byte* out) {
  while (bytes > 0) {
    const uint64_t at = offset % state.bytes();
    const uint64_t step = std::min(bytes, state.bytes() - at);
    std::memcpy(out, state.source() + at, step);
    out += step;
    offset += step;
    bytes -= step;
  }
}

Part MakePart(const SampleState& state, const Shapes& shapes) {
  Part part;
  for (uint64_t i = 0; i < shapes.tensors; ++i) {
    PartLeaf leaf = TensorLeaf(MakeKey({absl::StrCat("t", i)}), v1::DTYPE_U8,
                               {shapes.rows, shapes.row_bytes}, nullptr);
    const uint64_t offset = i * shapes.rows * shapes.row_bytes;
    leaf.copy = [&state, offset](uint64_t begin, uint64_t bytes, std::byte* out) {
      CopyBytes(state, offset + begin, bytes, out);
    };
    part.leaves.push_back(std::move(leaf));
  }
  return part;
}

// A region of one tensor, and what it took to read it.
struct Asked {
  uint64_t tensor = 0;
  Box region;
};
struct Took {
  double seconds = 0;  // planning included
  uint64_t from_disk = 0;
};

// A cold checkpoint, a destination of its size, and reads of it that are timed and checked.
class ColdCheckpoint {
 public:
  static absl::StatusOr<ColdCheckpoint> Make(Bench& bench, const Shapes& shapes) {
    CKPT_ASSIGN_OR_RETURN(Memory destination,
                          Memory::Allocate((shapes.bytes() + 4095) / 4096 * 4096,
                                           Memory::Pages::kHuge));
    ColdCheckpoint made(bench, shapes, std::move(destination));
    {
      CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> saver, bench.daemon().Connect());
      CKPT_ASSIGN_OR_RETURN(const SaveTimes saved,
                            SaveAndWait(bench, *saver, MakePart(bench.state(), shapes), {}));
      made.id_ = saved.id;
    }
    CKPT_RETURN_IF_ERROR(bench.daemon().Restart(/*forget_memory=*/true));
    made.files_ = bench.daemon().DataFiles();
    CKPT_ASSIGN_OR_RETURN(made.client_, bench.daemon().Connect());
    return made;
  }

  absl::StatusOr<Took> Read(const std::vector<Asked>& asked) {
    CKPT_RETURN_IF_ERROR(DropFromCache(files_));
    RestoreOptions options;
    options.threads = 2;
    const uint64_t before = testing::BytesReadFromDisk();
    const double begin = Now();
    for (const Asked& one : asked) {
      *options.selection.add_keys() = MakeKey({absl::StrCat("t", one.tensor)});
    }
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<RestorePlan> plan,
                          client_->PlanRestore(SelectorOf(id_), options));
    std::vector<ReadTarget> targets;
    std::byte* out = destination_.data();
    for (const Asked& one : asked) {
      ReadTarget target;
      CKPT_ASSIGN_OR_RETURN(target.leaf_number, plan->Find(absl::StrCat("t", one.tensor), 0));
      target.region = one.region;
      target.out = out;
      out += one.region.volume();
      targets.push_back(std::move(target));
    }
    CKPT_RETURN_IF_ERROR(plan->Read(targets));
    return Took{Now() - begin, testing::BytesReadFromDisk() - before};
  }
  absl::StatusOr<Took> ReadAll() {
    std::vector<Asked> all;
    for (uint64_t i = 0; i < shapes_.tensors; ++i) all.push_back({i, Whole()});
    return Read(all);
  }
  Box Whole() const { return Box::Whole({shapes_.rows, shapes_.row_bytes}); }

  // What was read last, when it was one region.
  absl::Status Check(const Asked& one) const {
    const std::byte* read = destination_.data();
    std::vector<std::byte> expected(one.region.extent[1]);
    for (uint64_t row = 0; row < one.region.extent[0]; ++row) {
      const uint64_t row_number = one.tensor * shapes_.rows + one.region.offset[0] + row;
      CopyBytes(bench_->state(), row_number * shapes_.row_bytes + one.region.offset[1],
                expected.size(), expected.data());
      if (std::memcmp(read, expected.data(), expected.size()) != 0) {
        return absl::DataLossError(absl::StrCat("row ", row, " of the slice is not what was saved"));
      }
      read += expected.size();
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<RestorePlan>> Plan() {
    return client_->PlanRestore(SelectorOf(id_), {});
  }
  absl::Status Delete() {
    client_.reset();
    return bench_->daemon().Delete(id_);
  }

 private:
  ColdCheckpoint(Bench& bench, const Shapes& shapes, Memory destination)
      : bench_(&bench), shapes_(shapes), destination_(std::move(destination)) {}
  Bench* bench_;
  Shapes shapes_;
  Memory destination_;
  CheckpointId id_;
  std::vector<std::string> files_;
  std::unique_ptr<Client> client_;
};

// `one` against the whole. The bar allows 1.5 % of the time of the whole, and 2 ms.
absl::Status PrintPart(Bench& bench, ColdCheckpoint& checkpoint, const Asked& one,
                       const std::string& name, const std::string& what) {
  const auto part = [&]() -> absl::StatusOr<double> {
    CKPT_ASSIGN_OR_RETURN(const Took took, checkpoint.Read({one}));
    return took.seconds;
  };
  const auto whole = [&]() -> absl::StatusOr<double> {
    CKPT_ASSIGN_OR_RETURN(const Took took, checkpoint.ReadAll());
    return took.seconds;
  };
  CKPT_RETURN_IF_ERROR(part().status());
  CKPT_RETURN_IF_ERROR(checkpoint.Check(one));
  CKPT_RETURN_IF_ERROR(whole().status());
  CKPT_ASSIGN_OR_RETURN(const Pairs pairs, MeasurePairs(bench.options().pairs, part, whole));
  std::vector<double> ratios;
  for (size_t i = 0; i < pairs.measured.size(); ++i) {
    ratios.push_back(pairs.measured[i] / (0.015 * pairs.baseline[i] + 0.002));
  }
  bench.printer().Print(
      {name, Median(ratios), "ratio", "1.5 % of the full restore's time, and 2 ms", Bar{1.00, false},
       absl::StrCat(what, "; threads: 2; verified; page cache dropped and checked by mincore before "
                          "each, destination populated; planning included in both"),
       absl::StrCat(PrintSeconds(Median(pairs.measured)), "; the full restore ",
                    PrintSeconds(Median(pairs.baseline)))});
  return absl::OkStatus();
}

// What the kernel fetched from disk for it, over what may be.
absl::Status PrintBytes(Bench& bench, ColdCheckpoint& checkpoint, const Asked& one,
                        const std::string& name, const std::string& baseline, double allowed,
                        const std::string& what) {
  std::vector<double> ratios;
  uint64_t from_disk = 0;
  for (int i = 0; i < 3; ++i) {
    CKPT_ASSIGN_OR_RETURN(const Took took, checkpoint.Read({one}));
    CKPT_RETURN_IF_ERROR(checkpoint.Check(one));
    from_disk = took.from_disk;
    ratios.push_back(static_cast<double>(from_disk) / allowed);
  }
  bench.printer().Print({name, Median(ratios), "ratio", baseline, Bar{1.02, false},
                         absl::StrCat(what, "; threads: 2; cold; counted by the kernel "
                                            "(read_bytes of /proc/self/io)"),
                         absl::StrCat(PrintByteSize(from_disk), " read for ",
                                      PrintByteSize(one.region.volume()), " asked")});
  return absl::OkStatus();
}

// Bytes of the blocks of one tensor that `region` touches.
double BlocksTouched(const Shapes& shapes, const Box& region) {
  std::set<uint64_t> blocks;
  for (uint64_t row = region.offset[0]; row < region.offset[0] + region.extent[0]; ++row) {
    const uint64_t begin = row * shapes.row_bytes + region.offset[1];
    const uint64_t last = begin + region.extent[1] - 1;
    for (uint64_t block = begin / kHashBlockBytes; block <= last / kHashBlockBytes; ++block) {
      blocks.insert(block);
    }
  }
  uint64_t bytes = 0;
  for (const uint64_t block : blocks) {
    bytes += std::min(kHashBlockBytes, shapes.bytes() - block * kHashBlockBytes);
  }
  return static_cast<double>(bytes);
}

absl::Status PrintView(Bench& bench, ColdCheckpoint& checkpoint) {
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<RestorePlan> plan, checkpoint.Plan());
  CKPT_ASSIGN_OR_RETURN(const uint32_t leaf, plan->Find("t0", 0));
  std::vector<double> seconds;
  for (int i = 0; i < std::max(bench.options().pairs, 10); ++i) {
    const double begin = Now();
    CKPT_ASSIGN_OR_RETURN(const TensorView view, plan->View(leaf, checkpoint.Whole()));
    seconds.push_back(Now() - begin);
    if (i > 0) continue;
    std::vector<std::byte> first(4096);
    CopyBytes(bench.state(), 0, first.size(), first.data());
    if (std::memcmp(view.bytes().data(), first.data(), first.size()) != 0) {
      return absl::DataLossError("a view shows something else than what was saved");
    }
  }
  bench.printer().Print({"view", Median(seconds) * 1e3, "ms", "nothing", Bar{1.00, false},
                         absl::StrCat("one thread; of all of a tensor of ",
                                      PrintByteSize(checkpoint.Whole().volume()),
                                      ", by a plan that is there; no byte is read"),
                         PrintSeconds(Median(seconds))});
  return absl::OkStatus();
}

}  // namespace

absl::Status PartialRow(Bench& bench) {
  const uint64_t bytes = 2 * bench.state().bytes();
  {
    const Shapes shapes{kTensors, 16, bytes / kTensors / 16 / 64 * 64};
    bench.printer().Note("one tensor out of a hundred");
    CKPT_ASSIGN_OR_RETURN(ColdCheckpoint checkpoint, ColdCheckpoint::Make(bench, shapes));
    CKPT_RETURN_IF_ERROR(PrintPart(
        bench, checkpoint, {37, checkpoint.Whole()}, "partial_tensor",
        absl::StrCat("one of 100 equal tensors of a checkpoint of ", PrintByteSize(bytes))));
    CKPT_RETURN_IF_ERROR(checkpoint.Delete());
  }
  const Shapes shapes{1, std::max<uint64_t>(bytes / kRowBytes, 4), kRowBytes};
  bench.printer().Note("slices of one tensor");
  CKPT_ASSIGN_OR_RETURN(ColdCheckpoint checkpoint, ColdCheckpoint::Make(bench, shapes));
  const uint64_t rows = std::max<uint64_t>(shapes.rows / 100, 1);
  const Asked contiguous{0, Box{{shapes.rows / 3, 0}, {rows, kRowBytes}}};
  CKPT_RETURN_IF_ERROR(PrintPart(
      bench, checkpoint, contiguous, "partial_rows",
      absl::StrCat(rows, " of ", shapes.rows, " rows of a tensor of ", PrintByteSize(bytes))));
  CKPT_RETURN_IF_ERROR(PrintBytes(
      bench, checkpoint, contiguous, "bytes_contiguous",
      "the bytes asked for, and a hash block at each end",
      static_cast<double>(contiguous.region.volume() + 2 * kHashBlockBytes),
      "the same slice of rows"));
  const Asked strided{
      0, Box{{shapes.rows / 3, 1 << 20}, {std::max<uint64_t>(shapes.rows / 16, 2), 64 << 10}}};
  CKPT_RETURN_IF_ERROR(PrintBytes(
      bench, checkpoint, strided, "bytes_strided", "the union of the hash blocks that it touches",
      BlocksTouched(shapes, strided.region),
      absl::StrCat("64 KiB of each of ", strided.region.extent[0], " rows of 4 MiB + 12 KiB")));
  CKPT_RETURN_IF_ERROR(PrintView(bench, checkpoint));
  return checkpoint.Delete();
}

}  // namespace ckpt::bench
