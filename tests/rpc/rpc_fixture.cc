#include "tests/rpc/rpc_fixture.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/key.h"
#include "common/status_macros.h"

namespace ckpt {

bool Never() { return false; }

v1::Selector StepOf(const std::string& run, uint64_t step) {
  v1::Selector selector;
  selector.set_run(run);
  selector.set_step(step);
  return selector;
}

v1::Selector LatestOf(const std::string& run) {
  v1::Selector selector;
  selector.set_run(run);
  selector.set_latest(true);
  return selector;
}

// --- FakeLive

std::vector<v1::CheckpointInfo> FakeLive::Live(const std::string& run) {
  MutexLock lock(mutex_);
  std::vector<v1::CheckpointInfo> found;
  for (const v1::CheckpointInfo& info : live_) {
    if (run.empty() || info.id().run() == run) found.push_back(info);
  }
  return found;
}

absl::StatusOr<v1::CheckpointInfo> FakeLive::Wait(const CheckpointId& id, v1::CheckpointState,
                                                  absl::Time, absl::FunctionRef<bool()>) {
  MutexLock lock(mutex_);
  for (const v1::CheckpointInfo& info : live_) {
    if (info.id().run() == id.run && info.id().step() == id.step) return info;
  }
  return UnknownCheckpoint(id);
}

absl::Time FakeLive::DurableAt(const CheckpointId&, CheckpointUid uid) {
  MutexLock lock(mutex_);
  const auto it = durable_at_.find(uid.bytes());
  return it == durable_at_.end() ? absl::InfinitePast() : it->second;
}

void FakeLive::SetDurableAt(CheckpointUid uid, absl::Time time) {
  MutexLock lock(mutex_);
  durable_at_[uid.bytes()] = time;
}

absl::Status FakeLive::WaitSettled(const std::string&, absl::Time, absl::FunctionRef<bool()>) {
  return settle ? settle() : absl::OkStatus();
}

uint64_t FakeLive::Subscribe(absl::AnyInvocable<void(const v1::CheckpointInfo&, bool)> changed) {
  MutexLock lock(mutex_);
  subscribers_[next_] = std::move(changed);
  return next_++;
}

void FakeLive::Unsubscribe(uint64_t number) {
  MutexLock lock(mutex_);
  subscribers_.erase(number);
}

void FakeLive::Announce(const v1::CheckpointInfo& info, bool deleted) {
  MutexLock lock(mutex_);
  for (auto& [number, changed] : subscribers_) changed(info, deleted);
}

void FakeLive::Add(const CheckpointId& id, v1::CheckpointState state) {
  v1::CheckpointInfo info;
  *info.mutable_id() = id.ToProto();
  info.set_state(state);
  info.set_checkpoint_uid(CheckpointUid::TimeOrdered().bytes());
  MutexLock lock(mutex_);
  live_.push_back(info);
}

size_t FakeLive::subscribers() {
  MutexLock lock(mutex_);
  return subscribers_.size();
}

// --- FakeMemory

namespace {

class FilePin : public MemoryPin {
 public:
  FilePin(FileId id, uint64_t length, int descriptor, std::shared_ptr<std::atomic<int>> pinned)
      : id_(id), length_(length), descriptor_(descriptor), pinned_(std::move(pinned)) {
    ++*pinned_;
  }
  ~FilePin() override {
    --*pinned_;
    ::close(descriptor_);
  }
  FileId file_id() const override { return id_; }
  uint64_t length() const override { return length_; }
  int read_only_descriptor() const override { return descriptor_; }

 private:
  const FileId id_;
  const uint64_t length_;
  const int descriptor_;
  const std::shared_ptr<std::atomic<int>> pinned_;
};

}  // namespace

std::unique_ptr<MemoryPin> FakeMemory::Pin(CheckpointUid uid, uint32_t rank) {
  const auto it = copies_.find({uid.bytes(), rank});
  if (it == copies_.end()) return nullptr;
  const std::string path = absl::StrCat(folder_, "/", it->second.first.hex());
  return std::make_unique<FilePin>(it->second.first, it->second.second,
                                   ::open(path.c_str(), O_RDONLY | O_CLOEXEC), pinned_);
}

bool FakeMemory::Has(CheckpointUid uid, uint32_t rank) const {
  return copies_.count({uid.bytes(), rank}) != 0;
}

void FakeMemory::Drop(CheckpointUid uid) {
  for (auto it = copies_.begin(); it != copies_.end();) {
    it = it->first.first == uid.bytes() ? copies_.erase(it) : std::next(it);
  }
}

void FakeMemory::Put(CheckpointUid uid, uint32_t rank, const std::string& bytes) {
  const FileId id = FileId::Random();
  std::ofstream(absl::StrCat(folder_, "/", id.hex()), std::ios::binary) << bytes;
  copies_[{uid.bytes(), rank}] = {id, bytes.size()};
}

// --- sessions

absl::Status FakeSession::Grant(FileId id, v1::FileAccess access, uint64_t length, int descriptor) {
  if (closed_) return absl::UnavailableError("the session is closed");
  if (access != v1::FILE_ACCESS_READ) return absl::InternalError("must be read-only");
  std::string bytes(length, '\0');
  if (::pread(descriptor, bytes.data(), length, 0) != static_cast<ssize_t>(length)) {
    return absl::InternalError("the granted file is shorter than said");
  }
  granted[id.bytes()] = std::move(bytes);
  ++grants;
  return absl::OkStatus();
}

uint64_t FakeSession::OnClose(absl::AnyInvocable<void()> closed) {
  if (closed_) {
    closed();
    return 0;
  }
  on_close_[next_] = std::move(closed);
  return next_++;
}

void FakeSession::Close() {
  closed_ = true;
  for (auto& [number, closed] : std::exchange(on_close_, {})) closed();
}

std::shared_ptr<Session> FakeSessions::Find(absl::string_view token) {
  for (const auto& session : sessions_) {
    if (!session->closed() && token == session->token().bytes()) return session;
  }
  return nullptr;
}

std::shared_ptr<FakeSession> FakeSessions::Open() {
  return sessions_.emplace_back(std::make_shared<FakeSession>());
}

// --- plans

const v1::PlannedLeaf* ReceivedPlan::Leaf(const std::string& printed_key, uint32_t rank) const {
  for (const v1::PlannedLeaf& leaf : leaves) {
    if (PrintKey(leaf.leaf().key()) == printed_key &&
        (leaf.leaf().placement() != v1::PLACEMENT_PER_RANK || leaf.rank() == rank)) {
      return &leaf;
    }
  }
  return nullptr;
}

RpcTest::RpcTest() : memory_(scratch_.path() + "/memory") {
  std::filesystem::create_directory(scratch_.path() + "/memory");
  auto store = Store::Open(scratch_.path() + "/data");
  EXPECT_TRUE(store.ok()) << store.status();
  store_ = *std::move(store);
  finder_ = std::make_unique<CheckpointFinder>(&store_->index(), &store_->folder(), &memory_);
  retention_ = std::make_unique<Retention>(RetentionOptions{.folder = &store_->folder(),
                                                            .index = &store_->index(),
                                                            .persister = &store_->persister()});
  catalog_ = std::make_unique<Catalog>(Catalog{&store_->index(), &store_->folder(),
                                               &store_->persister(), &live_, &memory_,
                                               finder_.get(), retention_.get()});
  restore_ = {&store_->index(), &store_->folder(), &live_,   &memory_,
              finder_.get(),    &plans_,           &groups_, &sessions_};
}

CheckpointUid RpcTest::Save(const CheckpointId& id, const std::vector<uint64_t>& sizes,
                            uint32_t ranks) {
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  const auto record = store_->Save(id, uid, sizes, ranks);
  EXPECT_TRUE(record.ok()) << record.status();
  return uid;
}

CheckpointUid RpcTest::SaveLayouts(const CheckpointId& id, std::vector<v1::Layout> layouts,
                                   std::vector<v1::Values> values) {
  const CheckpointUid uid = CheckpointUid::TimeOrdered();
  const auto ranks = static_cast<uint32_t>(layouts.size());
  std::vector<DurablePart> parts;
  std::vector<uint32_t> share;
  for (uint32_t rank = 0; rank < ranks; ++rank) {
    auto layout = PartLayout::FromProto(layouts[rank]);
    EXPECT_TRUE(layout.ok()) << layout.status();
    PartToPersist part = MakePart(id, uid, *layout, rank + 1, rank, ranks);
    if (rank < values.size()) part.values = values[rank];
    auto durable = store_->Persist(part);
    EXPECT_TRUE(durable.ok()) << durable.status();
    parts.push_back(*std::move(durable));
    share.push_back(rank);
  }
  const auto record = store_->persister().Commit(id, uid, ranks, share, parts);
  EXPECT_TRUE(record.ok()) << record.status();
  return uid;
}

absl::StatusOr<ReceivedPlan> RpcTest::Plan(const v1::PlanRestoreRequest& request) {
  ReceivedPlan plan;
  bool ended = false;
  CKPT_RETURN_IF_ERROR(
      PlanRestore(restore_, request, Never, [&](const v1::PlanRestoreResponse& message) {
        EXPECT_LE(message.ByteSizeLong(), 4u << 20);
        EXPECT_EQ(plan.order.empty(), message.has_header());
        EXPECT_FALSE(ended);
        if (message.has_summary()) {
          plan.summary = message.summary();
          ended = true;
        }
        if (message.has_header()) {
          plan.header = message.header();
          plan.order.push_back("header");
        }
        if (message.has_leaves()) {
          plan.leaves.insert(plan.leaves.end(), message.leaves().leaves().begin(),
                             message.leaves().leaves().end());
          plan.order.push_back("leaves");
        }
        if (message.has_pieces()) {
          for (const v1::Piece& piece : message.pieces().pieces()) {
            EXPECT_LT(piece.leaf_number(), plan.leaves.size());
          }
          plan.pieces.insert(plan.pieces.end(), message.pieces().pieces().begin(),
                             message.pieces().pieces().end());
          plan.order.push_back("pieces");
        }
        return true;
      }));
  EXPECT_TRUE(ended);
  return plan;
}

absl::StatusOr<std::string> RpcTest::ReadPiece(const ReceivedPlan& plan, const v1::Piece& piece) {
  v1::ReadPiecesRequest request;
  request.set_plan_id(plan.header.plan_id());
  v1::PieceRange* range = request.add_ranges();
  range->set_piece_number(piece.piece_number());
  range->set_length(piece.length());
  std::string bytes;
  CKPT_RETURN_IF_ERROR(
      ReadPieces(restore_, request, Never, [&](const v1::ReadPiecesResponse& chunk) {
        EXPECT_EQ(chunk.offset(), bytes.size());
        EXPECT_EQ(chunk.crc32c(), Crc32c(chunk.data()));
        EXPECT_LE(chunk.data().size(), 2u << 20);
        bytes += chunk.data();
        return true;
      }));
  return bytes;
}

}  // namespace ckpt
