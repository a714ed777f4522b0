// Any layout into any layout: random tensors of 0 to 5 dimensions, cut at random into stored
// pieces and, otherwise, into targets; the schedule is carried out on memory, and every byte is
// compared with the full tensor.
#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "client/restore/read_schedule.h"
#include "common/dtype.h"
#include "common/key.h"
#include "gtest/gtest.h"
#include "tests/common/random_boxes.h"

namespace ckpt {
namespace {

// Cuts at random planes, or evenly along one dimension (as data parallel shards are), or not.
std::vector<Box> RandomCut(RandomBoxes& random, const Box& whole) {
  if (whole.rank() == 0 || random.Number(0, 4) == 0) return {whole};
  if (random.Number(0, 1) == 0) return random.Tiling(whole, random.Number(2, 40));
  const size_t d = random.Number(0, whole.rank() - 1);
  const uint64_t parts = random.Number(1, whole.extent[d] + 2);  // some may be empty
  std::vector<Box> boxes;
  for (uint64_t i = 0; i < parts; ++i) {
    Box box = whole;
    const uint64_t begin = whole.extent[d] * i / parts;
    box.extent[d] = whole.extent[d] * (i + 1) / parts - begin;
    box.offset[d] += begin;
    boxes.push_back(box);
  }
  return boxes;
}

struct Tensor {
  Extents shape;
  uint64_t element_bytes;
  std::string bytes;
};

// The bytes of a box, dense, element by element: slow and plain.
std::string Slice(const Tensor& tensor, const Box& box) {
  std::string out;
  Extents at = box.offset;
  for (uint64_t n = box.volume(); n > 0; --n) {
    uint64_t element = 0;
    for (size_t d = 0; d < at.size(); ++d) element = element * tensor.shape[d] + at[d];
    out += tensor.bytes.substr(element * tensor.element_bytes, tensor.element_bytes);
    for (size_t d = at.size(); d-- > 0;) {
      if (++at[d] < box.offset[d] + box.extent[d]) break;
      at[d] = box.offset[d];
    }
  }
  return out;
}

class AnyLayout {
 public:
  explicit AnyLayout(uint64_t seed) : random_(seed) {}

  void Check() {
    const size_t tensors = random_.Number(1, 3);
    for (uint32_t i = 0; i < tensors; ++i) AddTensor(i);
    AddTargets();
    std::vector<PieceIndex> index(tensors_.size());
    for (uint32_t i = 0; i < pieces_.size(); ++i) index[pieces_[i].leaf_number].Add(i);
    for (PieceIndex& one : index) ASSERT_TRUE(one.Build(pieces_).ok()) << one.Build(pieces_);
    const auto schedule = MakeReadSchedule({leaves_, pieces_, index}, targets_);
    ASSERT_TRUE(schedule.ok()) << schedule.status();
    CarryOut(*schedule);
    CheckBlocks(*schedule);
    for (size_t i = 0; i < targets_.size(); ++i) {
      const Box& region = targets_[i].region;
      EXPECT_EQ(buffers_[i], Slice(tensors_[targets_[i].leaf_number], region) + "!")
          << "target " << i << " " << region.ToString();
    }
  }

 private:
  void AddTensor(uint32_t number) {
    constexpr DType kTypes[] = {v1::DTYPE_U8, v1::DTYPE_BF16, v1::DTYPE_F32, v1::DTYPE_C64};
    const size_t rank = random_.Number(0, 5);
    const DType dtype = kTypes[random_.Number(0, 3)];
    Tensor tensor{random_.Shape(rank, rank < 3 ? 40 : 7), DTypeBytes(dtype), ""};
    const Box whole = Box::Whole(tensor.shape);
    tensor.bytes.resize(whole.volume() * tensor.element_bytes);
    for (char& byte : tensor.bytes) byte = static_cast<char>(random_.generator()());
    v1::PlannedLeaf leaf;
    leaf.set_leaf_number(number);
    *leaf.mutable_leaf()->mutable_key() = MakeKey({"tensor", std::to_string(number)});
    leaf.mutable_leaf()->set_kind(v1::LEAF_KIND_TENSOR);
    leaf.mutable_leaf()->set_dtype(dtype);
    leaf.mutable_leaf()->mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
    leaves_.push_back(leaf);
    const uint64_t block_bytes = uint64_t{16} << random_.Number(0, 8);
    for (const Box& box : RandomCut(random_, whole)) {
      if (box.empty()) continue;
      StoredPiece piece;
      piece.box = box;
      piece.leaf_number = number;
      piece.length = box.volume() * tensor.element_bytes;
      piece.file_offset = file_.size();
      piece.block_bytes = block_bytes;
      const uint64_t blocks = (piece.length + block_bytes - 1) / block_bytes;
      for (uint64_t b = 0; b < blocks; ++b) piece.block_hashes.push_back(b);
      file_ += Slice(tensor, box);
      pieces_.push_back(std::move(piece));
    }
    tensors_.push_back(std::move(tensor));
  }

  void AddTargets() {
    for (uint32_t i = 0; i < tensors_.size(); ++i) {
      for (const Box& box : RandomCut(random_, Box::Whole(tensors_[i].shape))) AddTarget(i, box);
      // Slices besides, over what the others read as well.
      for (uint64_t n = random_.Number(0, 3); n > 0; --n) {
        AddTarget(i, random_.Inside(tensors_[i].shape));
      }
    }
    for (size_t i = 0; i < targets_.size(); ++i) {
      targets_[i].out = reinterpret_cast<std::byte*>(buffers_[i].data());
    }
  }

  void AddTarget(uint32_t leaf, const Box& box) {
    targets_.push_back({leaf, box, nullptr});
    buffers_.emplace_back(box.volume() * tensors_[leaf].element_bytes + 1, '!');
  }

  void CarryOut(const ReadSchedule& schedule) {
    for (const Extent& extent : schedule.extents) {
      const uint64_t at = FileOffset(pieces_[extent.piece], extent, false);
      for (uint32_t i = 0; i < extent.copy_count; ++i) {
        const PieceCopy& copy =
            schedule.copies[schedule.copies_of_extents[extent.first_copy + i]];
        uint64_t moved = 0;
        copy.runs.ForEachWithin(
            extent.begin, extent.begin + extent.bytes,
            [&](uint64_t source, uint64_t destination, uint64_t bytes) {
              std::memcpy(targets_[copy.target].out + destination,
                          file_.data() + at + (source - extent.begin), bytes);
              moved += bytes;
            });
        EXPECT_GT(moved, 0u) << "a copy that does not touch its extent";
      }
    }
  }

  // Exactly the blocks that some target has a byte in are read, and each of them once.
  void CheckBlocks(const ReadSchedule& schedule) {
    std::map<uint32_t, std::set<uint64_t>> wanted;
    for (const ReadTarget& target : targets_) {
      for (uint32_t p = 0; p < pieces_.size(); ++p) {
        if (pieces_[p].leaf_number != target.leaf_number) continue;
        const auto common = Intersect(pieces_[p].box, target.region);
        if (!common) continue;
        const uint64_t element_bytes = tensors_[target.leaf_number].element_bytes;
        ForEachRun(*common, pieces_[p].box, target.region,
                   [&](uint64_t from, uint64_t, uint64_t n) {
                     const uint64_t block_bytes = pieces_[p].block_bytes;
                     const uint64_t last = ((from + n) * element_bytes - 1) / block_bytes;
                     for (uint64_t b = from * element_bytes / block_bytes; b <= last; ++b) {
                       wanted[p].insert(b);
                     }
                   });
      }
    }
    std::map<uint32_t, std::set<uint64_t>> read;
    for (const Extent& extent : schedule.extents) {
      const uint64_t block_bytes = pieces_[extent.piece].block_bytes;
      EXPECT_EQ(extent.begin % block_bytes, 0u);
      for (uint64_t at = 0; at < extent.bytes; at += block_bytes) {
        EXPECT_TRUE(read[extent.piece].insert((extent.begin + at) / block_bytes).second)
            << "a block is read twice";
      }
    }
    EXPECT_EQ(read, wanted);
  }

  RandomBoxes random_;
  std::vector<Tensor> tensors_;
  std::string file_;
  std::vector<v1::PlannedLeaf> leaves_;
  std::vector<StoredPiece> pieces_;
  std::vector<ReadTarget> targets_;
  std::vector<std::string> buffers_;
};

TEST(ReadScheduleRandom, AnyLayoutLoadsIntoAnyLayout) {
  for (uint64_t seed = 1; seed <= 400 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    AnyLayout(seed).Check();
  }
}

// A hole in what is stored is always found, whatever the cut.
TEST(ReadScheduleRandom, AHoleIsNeverCovered) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomBoxes random(seed);
    const Box whole = Box::Whole(random.Shape(random.Number(1, 4), 12));
    std::vector<Box> boxes = random.Tiling(whole, random.Number(2, 60));
    const Box hole = boxes.back();
    boxes.pop_back();
    v1::PlannedLeaf leaf;
    leaf.mutable_leaf()->set_kind(v1::LEAF_KIND_TENSOR);
    leaf.mutable_leaf()->set_dtype(v1::DTYPE_U8);
    leaf.mutable_leaf()->mutable_shape()->Add(whole.extent.begin(), whole.extent.end());
    std::vector<StoredPiece> pieces;
    std::vector<PieceIndex> index(1);
    for (const Box& box : boxes) {
      StoredPiece piece;
      piece.box = box;
      piece.length = box.volume();
      piece.block_bytes = 1 << 20;
      piece.block_hashes.push_back(0);
      index[0].Add(static_cast<uint32_t>(pieces.size()));
      pieces.push_back(std::move(piece));
    }
    ASSERT_TRUE(index[0].Build(pieces).ok());
    const Box region = random.Inside(whole.extent);
    std::byte out[1];  // nothing is carried out
    const std::vector<ReadTarget> targets = {{0, region, out}};
    const auto schedule =
        MakeReadSchedule({absl::MakeConstSpan(&leaf, 1), pieces, index}, targets);
    const auto missing = Intersect(region, hole);
    EXPECT_EQ(schedule.status().code(), missing ? absl::StatusCode::kFailedPrecondition
                                                : absl::StatusCode::kOk)
        << region.ToString() << " without " << hole.ToString();
  }
}

}  // namespace
}  // namespace ckpt
