// What tests of the catalogue's and restore's calls need: a real data folder and index with
// committed checkpoints, and stand-ins for what is alive, in memory and connected.
#ifndef CKPT_TESTS_RPC_RPC_FIXTURE_H_
#define CKPT_TESTS_RPC_RPC_FIXTURE_H_

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/rpc/catalog.h"
#include "server/rpc/restore.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {

// Live checkpoints as the test sets them. Wait answers at once.
class FakeLive : public CheckpointView {
 public:
  std::vector<v1::CheckpointInfo> Live(const std::string& run) override;
  absl::StatusOr<v1::CheckpointInfo> Wait(const CheckpointId& id, v1::CheckpointState state,
                                          absl::Time deadline,
                                          absl::FunctionRef<bool()> cancelled) override;
  absl::Time DurableAt(const CheckpointId& id, CheckpointUid uid) override;
  absl::Status WaitSettled(const std::string& run, absl::Time deadline,
                           absl::FunctionRef<bool()> cancelled) override;
  uint64_t Subscribe(
      absl::AnyInvocable<void(const v1::CheckpointInfo&, bool deleted)> changed) override;
  void Unsubscribe(uint64_t number) override;
  void Announce(const v1::CheckpointInfo& info, bool deleted) override;

  void Add(const CheckpointId& id, v1::CheckpointState state);
  void SetDurableAt(CheckpointUid uid, absl::Time time);
  size_t subscribers();

  // Called by WaitSettled, before it answers: something may commit meanwhile.
  std::function<absl::Status()> settle;

 private:
  Mutex mutex_;
  std::vector<v1::CheckpointInfo> live_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Time> durable_at_ ABSL_GUARDED_BY(mutex_);  // by uid
  std::map<uint64_t, absl::AnyInvocable<void(const v1::CheckpointInfo&, bool)>> subscribers_
      ABSL_GUARDED_BY(mutex_);
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
};

// Memory copies in files of their own.
class FakeMemory : public MemoryCopies {
 public:
  explicit FakeMemory(std::string folder) : folder_(std::move(folder)) {}
  std::unique_ptr<MemoryPin> Pin(CheckpointUid uid, uint32_t rank) override;
  bool Has(CheckpointUid uid, uint32_t rank) const override;
  void Drop(CheckpointUid uid) override;

  void Put(CheckpointUid uid, uint32_t rank, const std::string& bytes);
  int pinned() const { return *pinned_; }  // of any thread

 private:
  const std::string folder_;
  std::map<std::pair<std::string, uint32_t>, std::pair<FileId, uint64_t>> copies_;
  std::shared_ptr<std::atomic<int>> pinned_ = std::make_shared<std::atomic<int>>(0);
};

class FakeSession : public Session {
 public:
  SessionToken token() const override { return token_; }
  PeerCredentials peer() const override { return {}; }
  bool closed() const override { return closed_; }
  absl::Status Grant(FileId id, v1::FileAccess access, uint64_t length, int descriptor) override;
  void Revoke(FileId, absl::AnyInvocable<void()> unmapped) override { unmapped(); }
  uint64_t OnClose(absl::AnyInvocable<void()> closed) override;
  void ForgetOnClose(uint64_t number) override { on_close_.erase(number); }
  void DropOnClose(uint64_t number) override { on_close_.erase(number); }

  void Close();
  // The bytes of each granted file, read through the descriptor that was granted.
  std::map<std::string, std::string> granted;
  int grants = 0;
  size_t watchers() const { return on_close_.size(); }

 private:
  const SessionToken token_ = SessionToken::Random();
  bool closed_ = false;
  uint64_t next_ = 1;
  std::map<uint64_t, absl::AnyInvocable<void()>> on_close_;
};

class FakeSessions : public SessionServer {
 public:
  std::shared_ptr<Session> Find(absl::string_view token) override;
  size_t count() const override { return sessions_.size(); }
  std::shared_ptr<FakeSession> Open();

 private:
  std::vector<std::shared_ptr<FakeSession>> sessions_;
};

// A whole plan as a caller receives it.
struct ReceivedPlan {
  v1::PlanHeader header;
  std::vector<v1::PlannedLeaf> leaves;
  std::vector<v1::Piece> pieces;
  std::vector<std::string> order;  // "header", "leaves", "pieces"; always ends with a summary
  v1::PlanSummary summary;

  const v1::PlannedLeaf* Leaf(const std::string& printed_key, uint32_t rank = 0) const;
};

class RpcTest : public ::testing::Test {
 protected:
  RpcTest();

  // A committed checkpoint of PER_RANK U8 tensors t0, t1, ...
  CheckpointUid Save(const CheckpointId& id, const std::vector<uint64_t>& sizes = {100},
                     uint32_t ranks = 1);
  // A committed checkpoint of these layouts, one for each rank; part r's bytes are
  // PartBytes(r + 1).
  CheckpointUid SaveLayouts(const CheckpointId& id, std::vector<v1::Layout> layouts,
                            std::vector<v1::Values> values = {});
  absl::StatusOr<ReceivedPlan> Plan(const v1::PlanRestoreRequest& request);
  // The bytes of a piece, by ReadPieces.
  absl::StatusOr<std::string> ReadPiece(const ReceivedPlan& plan, const v1::Piece& piece);

  TemporaryFolder scratch_;
  std::unique_ptr<Store> store_;
  FakeLive live_;
  FakeMemory memory_;
  FakeSessions sessions_;
  std::unique_ptr<CheckpointFinder> finder_;
  std::unique_ptr<Retention> retention_;  // not started: it deletes nothing
  std::unique_ptr<Catalog> catalog_;
  PlanTable plans_;
  RestoreGroups groups_;
  Restore restore_;
};

v1::Selector StepOf(const std::string& run, uint64_t step);
v1::Selector LatestOf(const std::string& run);
bool Never();

}  // namespace ckpt

#endif  // CKPT_TESTS_RPC_RPC_FIXTURE_H_
