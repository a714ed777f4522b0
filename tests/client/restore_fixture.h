// A plan that a fake daemon serves, on files that a test damages: for Read, View and their errors.
#ifndef CKPT_TESTS_CLIENT_RESTORE_FIXTURE_H_
#define CKPT_TESTS_CLIENT_RESTORE_FIXTURE_H_

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "client/client.h"
#include "common/digest.h"
#include "common/key.h"
#include "common/limits.h"
#include "gtest/gtest.h"
#include "tests/client/fake_daemon.h"

namespace ckpt {

inline constexpr uint64_t kBlock = kHashBlockBytes;
inline constexpr uint64_t kDiskShift = 4096;  // the disk copy has a header

// One checkpoint: U8 tensors of two dimensions, each stored in some pieces, in one memory file and
// one disk file that hold the same bytes.
class RestoreTest : public ::testing::Test {
 protected:
  RestoreTest() {
    memory_ = memfd_create("memory", MFD_CLOEXEC);
    disk_ = memfd_create("disk", MFD_CLOEXEC);
    AddTensor("model.big", 40, 120007, {{{0, 0}, {30, 120007}}, {{30, 0}, {10, 120007}}});
    AddTensor("model.columns", 64, 1000, {{{0, 0}, {64, 300}}, {{0, 300}, {64, 700}}});
    for (int i = 0; i < 30; ++i) {
      AddTensor("small." + std::to_string(i), 1, 100 + static_cast<uint64_t>(i) * 37, {});
    }
    daemon_.on_plan = [this](const v1::PlanRestoreRequest& request,
                             grpc::ServerWriter<v1::PlanRestoreResponse>* writer) {
      return Plan(request, writer);
    };
    daemon_.on_read_pieces = [this](const v1::ReadPiecesRequest& request,
                                    grpc::ServerWriter<v1::ReadPiecesResponse>* writer) {
      return ReadPieces(request, writer);
    };
    client_ = *Client::Connect({.socket = daemon_.socket()});
  }
  ~RestoreTest() override {
    client_.reset();
    close(memory_);
    close(disk_);
  }

  struct Tensor {
    std::string key;
    uint64_t rows, columns;
    std::string bytes;
  };

  void AddTensor(const std::string& key, uint64_t rows, uint64_t columns, std::vector<Box> boxes) {
    if (boxes.empty()) boxes.push_back(Box{{0, 0}, {rows, columns}});
    Tensor tensor{key, rows, columns, std::string(rows * columns, '\0')};
    std::mt19937_64 random(tensors_.size() + 1);
    for (char& byte : tensor.bytes) byte = static_cast<char>(random());
    const auto number = static_cast<uint32_t>(tensors_.size());
    for (const Box& box : boxes) {
      std::string bytes = Slice(tensor, box);
      v1::Piece piece;
      piece.set_leaf_number(number);
      box.ToProto(piece.mutable_box());
      piece.set_length(bytes.size());
      piece.set_piece_number(static_cast<uint32_t>(pieces_.size()));
      piece.set_block_bytes(kBlock);
      piece.set_file_offset(file_bytes_);
      for (uint64_t at = 0; at < bytes.size(); at += kBlock) {
        piece.add_block_hashes(Xxh3(absl::string_view(bytes).substr(at, kBlock)));
      }
      EXPECT_EQ(pwrite(memory_, bytes.data(), bytes.size(), static_cast<off_t>(file_bytes_)),
                static_cast<ssize_t>(bytes.size()));
      EXPECT_EQ(
          pwrite(disk_, bytes.data(), bytes.size(), static_cast<off_t>(file_bytes_ + kDiskShift)),
          static_cast<ssize_t>(bytes.size()));
      file_bytes_ += bytes.size();
      pieces_.push_back(std::move(piece));
      piece_bytes_.push_back(std::move(bytes));
    }
    tensors_.push_back(std::move(tensor));
  }

  static std::string Slice(const Tensor& tensor, const Box& box) {
    std::string bytes;
    for (uint64_t row = 0; row < box.extent[0]; ++row) {
      bytes += tensor.bytes.substr((box.offset[0] + row) * tensor.columns + box.offset[1],
                                   box.extent[1]);
    }
    return bytes;
  }

  grpc::Status Plan(const v1::PlanRestoreRequest& request,
                    grpc::ServerWriter<v1::PlanRestoreResponse>* writer) {
    last_request_ = request;
    v1::PlanRestoreResponse response;
    response.mutable_header()->set_plan_id(PlanId::Random().bytes());
    CheckpointId id{"run", 5, Incarnation::TimeOrdered()};
    *response.mutable_header()->mutable_checkpoint()->mutable_id() = id.ToProto();
    writer->Write(response);
    for (uint32_t i = 0; i < tensors_.size(); ++i) {
      v1::PlannedLeaf* leaf = response.mutable_leaves()->add_leaves();
      leaf->set_leaf_number(i);
      leaf->set_selected(true);
      leaf->mutable_leaf()->set_kind(v1::LEAF_KIND_TENSOR);
      leaf->mutable_leaf()->set_dtype(v1::DTYPE_U8);
      leaf->mutable_leaf()->set_placement(v1::PLACEMENT_SHARDED);
      leaf->mutable_leaf()->add_shape(tensors_[i].rows);
      leaf->mutable_leaf()->add_shape(tensors_[i].columns);
      *leaf->mutable_leaf()->mutable_key() = MakeKey({tensors_[i].key});
    }
    if (spoil_last_leaf_) spoil_last_leaf_(*response.mutable_leaves()->mutable_leaves()->rbegin());
    writer->Write(response);
    if (!request.session_token().empty()) {
      if (tier_ == v1::TIER_MEMORY) {
        daemon_.Grant(memory_id_, v1::FILE_ACCESS_READ, file_bytes_, memory_);
      }
      daemon_.Grant(disk_id_, v1::FILE_ACCESS_READ, file_bytes_ + kDiskShift, disk_);
    }
    response.mutable_pieces();
    for (v1::Piece piece : pieces_) {
      piece.set_tier(tier_);
      if (tier_ == v1::TIER_MEMORY) {
        piece.set_file_id(memory_id_.bytes());
        if (disk_copy_) piece.set_disk_file_id(disk_id_.bytes());
        piece.set_disk_file_offset(piece.file_offset() + kDiskShift);
      } else {
        piece.set_file_id(disk_id_.bytes());
        piece.set_file_offset(piece.file_offset() + kDiskShift);
      }
      *response.mutable_pieces()->add_pieces() = piece;
    }
    writer->Write(response);
    *response.mutable_summary() = summary_;
    writer->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status ReadPieces(const v1::ReadPiecesRequest& request,
                          grpc::ServerWriter<v1::ReadPiecesResponse>* writer) {
    for (int i = 0; i < request.ranges_size(); ++i) {
      const v1::PieceRange& range = request.ranges(i);
      for (uint64_t done = 0; done < range.length(); done += 700001) {
        v1::ReadPiecesResponse response;
        response.set_range(static_cast<uint32_t>(i));
        response.set_offset(range.offset() + done);
        response.set_data(piece_bytes_[range.piece_number()].substr(
            response.offset(), std::min<uint64_t>(700001, range.length() - done)));
        response.set_crc32c(Crc32c(response.data()));
        if (spoil_chunk_) spoil_chunk_(response);
        if (!writer->Write(response)) return grpc::Status::CANCELLED;
      }
    }
    return grpc::Status::OK;
  }

  // Flips a byte of a tensor's first piece in one of the files.
  void Damage(int file, uint32_t tensor, uint64_t offset_in_piece) {
    for (const v1::Piece& piece : pieces_) {
      if (piece.leaf_number() != tensor) continue;
      const auto at = static_cast<off_t>(piece.file_offset() + offset_in_piece +
                                         (file == disk_ ? kDiskShift : 0));
      char byte = 0;
      ASSERT_EQ(pread(file, &byte, 1, at), 1);
      byte = static_cast<char>(byte ^ 0x10);
      ASSERT_EQ(pwrite(file, &byte, 1, at), 1);
      return;
    }
  }

  std::unique_ptr<RestorePlan> MakePlan(const RestoreOptions& options = {}) {
    v1::Selector selector;
    selector.set_run("run");
    selector.set_latest(true);
    auto plan = client_->PlanRestore(selector, options);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan.ok() ? *std::move(plan) : nullptr;
  }

  // Reads the boxes and compares every byte.
  absl::Status ReadAndCompare(RestorePlan& plan,
                              const std::vector<std::pair<uint32_t, Box>>& regions,
                              ReadStatistics* statistics = nullptr) {
    std::vector<std::string> buffers;
    std::vector<ReadTarget> targets;
    for (const auto& [leaf, box] : regions) buffers.emplace_back(box.volume() + 1, '?');
    for (size_t i = 0; i < regions.size(); ++i) {
      targets.push_back(
          {regions[i].first, regions[i].second, reinterpret_cast<std::byte*>(buffers[i].data())});
    }
    if (absl::Status status = plan.Read(targets, statistics); !status.ok()) return status;
    for (size_t i = 0; i < regions.size(); ++i) {
      EXPECT_EQ(buffers[i].back(), '?') << "wrote beyond the buffer";
      buffers[i].pop_back();
      EXPECT_TRUE(buffers[i] == Slice(tensors_[regions[i].first], regions[i].second))
          << tensors_[regions[i].first].key << " " << regions[i].second.ToString();
    }
    return absl::OkStatus();
  }
  std::vector<std::pair<uint32_t, Box>> Everything() const {
    std::vector<std::pair<uint32_t, Box>> regions;
    for (uint32_t i = 0; i < tensors_.size(); ++i) {
      regions.push_back({i, Box{{0, 0}, {tensors_[i].rows, tensors_[i].columns}}});
    }
    return regions;
  }
  std::vector<std::pair<uint32_t, Box>> SomeSlices() const {
    return {{0, Box{{20, 119000}, {20, 1007}}},  // columns over both pieces
            {0, Box{{29, 0}, {2, 120007}}},      // rows over both
            {0, Box{{39, 120006}, {1, 1}}},      // the last byte
            {1, Box{{5, 200}, {50, 300}}},       // over both column pieces
            {7, Box{{0, 3}, {1, 4}}}};
  }

  testing::FakeDaemon daemon_;
  const FileId memory_id_ = FileId::Random();
  const FileId disk_id_ = FileId::Random();
  int memory_ = -1;
  int disk_ = -1;
  v1::Tier tier_ = v1::TIER_MEMORY;
  uint64_t file_bytes_ = 0;
  std::vector<Tensor> tensors_;
  std::vector<v1::Piece> pieces_;
  std::function<void(v1::PlannedLeaf&)> spoil_last_leaf_;
  std::vector<std::string> piece_bytes_;
  v1::PlanSummary summary_;
  bool disk_copy_ = true;  // of memory pieces
  std::function<void(v1::ReadPiecesResponse&)> spoil_chunk_;
  v1::PlanRestoreRequest last_request_;
  std::unique_ptr<Client> client_;
};

}  // namespace ckpt

#endif  // CKPT_TESTS_CLIENT_RESTORE_FIXTURE_H_
