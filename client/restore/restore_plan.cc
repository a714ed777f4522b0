// The restore, step by step:
//
//   1. PlanRestore: header, then leaves in the order of their keys, each before its pieces; here
//      they are put into checkpoint order. With a session, descriptors of the pieces' files arrive
//      over its socket, and are taken from there once the plan is complete.
//   2. Read: all targets are checked against leaves and pieces (read_schedule.cc); nothing is
//      touched while anything is wrong.
//   3. Memory pieces are read from their mapping (read_memory.cc); what cannot be had there -
//      recycled or damaged - is read from its disk copy.
//   4. Disk pieces are read in large reads, through the page cache where several ranks want the
//      same (read_disk.cc). A file that was not granted, and all files of a remote daemon, come
//      through ReadPieces (read_stream.cc).
//   5. The destructor releases the plan: until then the daemon keeps every file that it names.
#include "client/restore/restore_plan.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/restore/piece_reader.h"
#include "client/restore/printed_keys.h"
#include "client/restore/read_schedule.h"
#include "client/restore/tensor_view.h"
#include "common/checkpoint_id.h"
#include "common/dtype.h"
#include "common/key.h"
#include "common/layout.h"
#include "common/limits.h"
#include "common/nearest_names.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

constexpr int kThreadsMax = 64;

absl::Status Malformed(absl::string_view what) {
  return absl::InternalError(absl::StrCat("the daemon sent a plan that makes no sense: ", what));
}

// They are cut alike, so that pieces of the one are pieces of the other.
bool IsAliasOf(const v1::PlannedLeaf& alias, const v1::PlannedLeaf& holder) {
  const v1::Leaf& a = alias.leaf();
  const v1::Leaf& b = holder.leaf();
  return !holder.has_alias_of() && a.kind() == b.kind() && a.dtype() == b.dtype() &&
         std::equal(a.shape().begin(), a.shape().end(), b.shape().begin(), b.shape().end());
}

// All of a plan: leaked as a whole in a forked child.
struct PlanState {
  ForkMark mark;
  v1::PlanHeader header;
  v1::PlanSummary summary;
  std::vector<v1::PlannedLeaf> leaves;
  std::vector<PieceIndex> pieces_of_leaf;
  PrintedKeys keys;
  PieceSource source;
  std::shared_ptr<Session> session;  // null: remote, or stream asked for
  uint32_t ranks_together = 1;       // of a launch that restore by the same plan
  bool per_rank_shared = false;      // as RestoreOptions
  bool has_unreadable = false;

  absl::Status Take(v1::PlanRestoreResponse& response);
  absl::Status TakePiece(const v1::Piece& piece);
  absl::Status TakeFiles();
  absl::Status SortLeaves();
  PlannedPieces planned() const {
    return {leaves,         source.pieces,
            pieces_of_leaf, ranks_together,
            header.checkpoint().world_size(),
            per_rank_shared};
  }
  absl::Status Complete();
};

class PlanImpl : public RestorePlan {
 public:
  explicit PlanImpl(std::unique_ptr<PlanState> state) : state_(std::move(state)) {}
  ~PlanImpl() override {
    if (state_->mark.forked()) {
      static_cast<void>(state_.release());
      return;
    }
    if (!state_->header.plan_id().empty()) {
      state_->source.connection->ReleasePlan(state_->header.plan_id());
    }
    if (state_->session == nullptr) return;
    std::vector<std::shared_ptr<ReadFile>> files;
    for (auto& [id, file] : state_->source.files) files.push_back(std::move(file));
    state_->session->files().Release(std::move(files));
  }

  const v1::CheckpointInfo& checkpoint() const override { return state_->header.checkpoint(); }
  const v1::PlanSummary& summary() const override { return state_->summary; }
  absl::Span<const v1::PlannedLeaf> leaves() const override { return state_->leaves; }
  absl::StatusOr<uint32_t> Find(const std::string& printed_key, uint32_t rank) const override;
  bool has_unreadable() const override { return state_->has_unreadable; }
  absl::Status Check(absl::Span<const ReadTarget> targets) const override {
    return MakeReadSchedule(state_->planned(), targets).status();
  }
  absl::Status Read(absl::Span<const ReadTarget> targets, ReadStatistics* statistics) override;
  absl::StatusOr<TensorView> View(uint32_t leaf_number, const Box& region) const override;

 private:
  absl::Status ReadScheduled(const ReadSchedule& schedule, PieceReader& reader) const;

  std::unique_ptr<PlanState> state_;
};

absl::Status PlanState::Take(v1::PlanRestoreResponse& response) {
  switch (response.kind_case()) {
    case v1::PlanRestoreResponse::kHeader:
      header = std::move(*response.mutable_header());
      return absl::OkStatus();
    case v1::PlanRestoreResponse::kLeaves:
      for (v1::PlannedLeaf& leaf : *response.mutable_leaves()->mutable_leaves()) {
        if (leaf.leaf_number() != leaves.size()) return Malformed("leaves out of order");
        leaves.push_back(std::move(leaf));
      }
      return absl::OkStatus();
    case v1::PlanRestoreResponse::kPieces:
      for (const v1::Piece& piece : response.pieces().pieces()) {
        CKPT_RETURN_IF_ERROR(TakePiece(piece));
      }
      return absl::OkStatus();
    case v1::PlanRestoreResponse::kSummary:
      summary = response.summary();
      return absl::OkStatus();
    default:
      return absl::OkStatus();  // a newer daemon's
  }
}

absl::Status PlanState::TakePiece(const v1::Piece& piece) {
  if (piece.leaf_number() >= leaves.size()) return Malformed("a piece of no leaf");
  const v1::Leaf& leaf = leaves[piece.leaf_number()].leaf();
  StoredPiece stored;
  stored.box = Box::FromProto(piece.box());
  const auto shape =
      absl::MakeConstSpan(leaf.shape().data(), static_cast<size_t>(leaf.shape_size()));
  const uint64_t element_bytes = DTypeBytes(leaf.dtype());
  if (!IsTensorKind(leaf.kind()) || !ValidateBox(stored.box, shape).ok() || stored.box.empty() ||
      element_bytes == 0 || stored.box.volume() > kPartBytesMax / element_bytes ||
      stored.box.volume() * element_bytes != piece.length()) {
    return Malformed(absl::StrCat("piece ", piece.piece_number(), " does not fit its leaf ",
                                  PrintKey(leaf.key())));
  }
  if (piece.block_bytes() == 0 || piece.block_bytes() > kPartBytesMax ||
      piece.first_block() > kPartBytesMax || piece.tier() == v1::TIER_UNSPECIFIED) {
    return Malformed("a piece without block size or tier");
  }
  if (piece.unreadable().empty()) {
    CKPT_ASSIGN_OR_RETURN(stored.file, FileId::FromBytes(piece.file_id(), "a piece's file id"));
  } else {
    has_unreadable = true;
    stored.unreadable = std::make_unique<const std::string>(piece.unreadable());
  }
  if (!piece.disk_file_id().empty()) {
    CKPT_ASSIGN_OR_RETURN(stored.disk_file,
                          FileId::FromBytes(piece.disk_file_id(), "a piece's disk file id"));
  }
  stored.file_offset = piece.file_offset();
  stored.disk_file_offset = piece.disk_file_offset();
  stored.length = piece.length();
  stored.block_bytes = piece.block_bytes();
  stored.first_block = piece.first_block();
  stored.block_hashes.assign(piece.block_hashes().begin(), piece.block_hashes().end());
  stored.leaf_number = piece.leaf_number();
  stored.piece_number = piece.piece_number();
  stored.in_memory = piece.tier() == v1::TIER_MEMORY;
  source.pieces.push_back(std::move(stored));
  return absl::OkStatus();
}

// A grant may still be on its way when the plan is complete: the sockets are two.
absl::Status PlanState::TakeFiles() {
  for (const StoredPiece& piece : source.pieces) {
    for (const FileId id : {piece.file, piece.disk_file}) {
      if (id.none() || source.files.count(id) > 0) continue;
      CKPT_ASSIGN_OR_RETURN(source.files[id],
                            session->files().UseRead(id, absl::Now() + kGrantTimeout));
    }
  }
  return absl::OkStatus();
}

// From the daemon's order, by key, into checkpoint order.
absl::Status PlanState::SortLeaves() {
  std::vector<uint32_t> order(leaves.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(leaves[a].rank(), leaves[a].position()) <
           std::pair(leaves[b].rank(), leaves[b].position());
  });
  std::vector<uint32_t> numbers(leaves.size());
  for (uint32_t i = 0; i < numbers.size(); ++i) numbers[order[i]] = i;
  std::vector<v1::PlannedLeaf> sorted(leaves.size());
  for (size_t i = 0; i < numbers.size(); ++i) {
    v1::PlannedLeaf& leaf = sorted[numbers[i]] = std::move(leaves[i]);
    leaf.set_leaf_number(numbers[i]);
    if (!leaf.has_alias_of()) continue;
    if (leaf.alias_of() >= numbers.size()) return Malformed("an alias of no leaf");
    leaf.set_alias_of(numbers[leaf.alias_of()]);
  }
  leaves = std::move(sorted);
  for (const v1::PlannedLeaf& leaf : leaves) {
    if (leaf.has_alias_of() && !IsAliasOf(leaf, leaves[leaf.alias_of()])) {
      return Malformed(absl::StrCat(PrintKey(leaf.leaf().key()), " is no alias of ",
                                    PrintKey(leaves[leaf.alias_of()].leaf().key())));
    }
  }
  for (StoredPiece& piece : source.pieces) piece.leaf_number = numbers[piece.leaf_number];
  return absl::OkStatus();
}

absl::Status PlanState::Complete() {
  CKPT_RETURN_IF_ERROR(SortLeaves());
  pieces_of_leaf.resize(leaves.size());
  for (uint32_t i = 0; i < source.pieces.size(); ++i) {
    pieces_of_leaf[source.pieces[i].leaf_number].Add(i);
  }
  source.leaves = leaves;
  keys = PrintedKeys(leaves);
  for (uint32_t i = 0; i < leaves.size(); ++i) {
    if (const absl::Status built = pieces_of_leaf[i].Build(source.pieces); !built.ok()) {
      return Malformed(absl::StrCat("stored ", built.message(), ", of ", keys[i]));
    }
  }
  source.plan_id = header.plan_id();
  const absl::StatusOr<CheckpointId> id = CheckpointId::FromProto(header.checkpoint().id());
  source.checkpoint = id.ok() ? id->ToString() : header.checkpoint().id().run();
  return session == nullptr ? absl::OkStatus() : TakeFiles();
}

absl::StatusOr<uint32_t> PlanImpl::Find(const std::string& printed_key, uint32_t rank) const {
  const absl::Span<const uint32_t> found = state_->keys.Find(printed_key);
  for (const uint32_t number : found) {
    const v1::PlannedLeaf& leaf = state_->leaves[number];
    if (leaf.leaf().placement() != v1::PLACEMENT_PER_RANK || leaf.rank() == rank) return number;
  }
  if (!found.empty()) {
    return absl::NotFoundError(absl::StrCat("no leaf ", printed_key, " of rank ", rank, " in ",
                                            state_->source.checkpoint));
  }
  NearestSearch search(printed_key, 1);
  absl::string_view before;
  for (const uint32_t number : state_->keys.sorted()) {
    const absl::string_view key = state_->keys[number];
    if (number == state_->keys.sorted().front() || key != before) search.Add(key);
    before = key;
  }
  const std::vector<std::string> nearest = search.Names();
  return absl::NotFoundError(
      absl::StrCat("no leaf ", printed_key, " in ", state_->source.checkpoint,
                   nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest.front(), "?")));
}

absl::Status PlanImpl::Read(absl::Span<const ReadTarget> targets, ReadStatistics* statistics) {
  CKPT_RETURN_IF_ERROR(state_->mark.Check());
  CKPT_ASSIGN_OR_RETURN(const ReadSchedule schedule, MakeReadSchedule(state_->planned(), targets));
  PieceReader reader(state_->source, schedule, targets);
  const absl::Status status = ReadScheduled(schedule, reader);
  if (statistics != nullptr) {
    *statistics = reader.statistics();
    statistics->bytes_asked = schedule.bytes_asked;
  }
  return status;
}

absl::StatusOr<TensorView> PlanImpl::View(uint32_t leaf_number, const Box& region) const {
  CKPT_RETURN_IF_ERROR(state_->mark.Check());
  return MakeTensorView(state_->planned(), state_->source, leaf_number, region);
}

absl::Status PlanImpl::ReadScheduled(const ReadSchedule& schedule, PieceReader& reader) const {
  const PieceSource& source = state_->source;
  std::vector<uint32_t> memory;
  std::vector<uint32_t> disk;
  std::vector<uint32_t> stream;
  for (uint32_t i = 0; i < schedule.extents.size(); ++i) {
    const StoredPiece& piece = source.pieces[schedule.extents[i].piece];
    if (source.files.count(piece.file) == 0) {
      stream.push_back(i);
    } else {
      (piece.in_memory ? memory : disk).push_back(i);
    }
  }
  std::vector<uint32_t> second_copy;
  for (const uint32_t failed : reader.ReadMemory(memory)) {
    const FileId copy = source.pieces[schedule.extents[failed].piece].disk_file;
    (source.files.count(copy) > 0 ? second_copy : stream).push_back(failed);
  }
  CKPT_RETURN_IF_ERROR(reader.ReadDisk(second_copy, true));
  CKPT_RETURN_IF_ERROR(reader.ReadDisk(disk, false));
  return reader.ReadStream(stream);
}

v1::PlanRestoreRequest MakeRequest(const v1::Selector& selector, const RestoreOptions& options) {
  v1::PlanRestoreRequest request;
  *request.mutable_selector() = selector;
  *request.mutable_selection() = options.selection;
  if (options.group.has_value()) *request.mutable_group() = *options.group;
  const absl::Duration settle =
      std::clamp(options.settle_timeout, absl::ZeroDuration(), absl::Hours(24 * 365));
  request.mutable_settle_timeout()->set_seconds(absl::ToInt64Seconds(settle));
  request.mutable_settle_timeout()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(settle % absl::Seconds(1))));
  request.set_leaves_only(options.leaves_only);
  return request;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RestorePlan>> MakeRestorePlan(std::shared_ptr<Connection> connection,
                                                             std::shared_ptr<WorkerThreads> workers,
                                                             const v1::Selector& selector,
                                                             const RestoreOptions& options) {
  if (options.threads < 1 || options.threads > kThreadsMax) {
    return absl::InvalidArgumentError(absl::StrCat("threads must be 1 to ", kThreadsMax));
  }
  CKPT_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session, connection->GetSession());
  v1::PlanRestoreRequest request = MakeRequest(selector, options);
  auto state = std::make_unique<PlanState>();
  state->source.connection = connection;
  state->source.workers = std::move(workers);
  state->source.threads = options.threads;
  state->source.verify = options.verify;
  if (options.ranks_together > 0) {
    state->ranks_together = options.ranks_together;
  } else if (options.group.has_value()) {
    state->ranks_together = options.group->world_size();
  }
  state->per_rank_shared = options.per_rank_shared;
  if (session != nullptr && !options.stream) {
    state->session = session;
    request.set_session_token(session->token());
    session->files().BeginPlanning();
  }
  absl::Status status = connection->PlanRestore(
      request, [&](v1::PlanRestoreResponse& response) { return state->Take(response); });
  if (status.ok()) status = state->Complete();
  if (state->session != nullptr) session->files().EndPlanning();
  // From here on the destructor releases what the daemon holds for the plan.
  auto plan = std::make_unique<PlanImpl>(std::move(state));
  if (!status.ok()) return status;
  return std::unique_ptr<RestorePlan>(std::move(plan));
}

absl::StatusOr<v1::PlanSummary> EstimateRestore(Connection& connection,
                                                const v1::Selector& selector,
                                                const RestoreOptions& options) {
  CKPT_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session, connection.GetSession());
  v1::PlanRestoreRequest request = MakeRequest(selector, options);
  request.set_summary_only(true);
  if (session != nullptr) request.set_session_token(session->token());
  std::optional<v1::PlanSummary> summary;
  std::string plan_id;
  const absl::Status status =
      connection.PlanRestore(request, [&](v1::PlanRestoreResponse& response) {
        if (response.has_header()) plan_id = response.header().plan_id();
        if (response.has_summary()) summary = response.summary();
        return absl::OkStatus();
      });
  CKPT_RETURN_IF_ERROR(status);
  if (summary.has_value()) return *std::move(summary);
  connection.ReleasePlan(plan_id);  // an older daemon made a plan of it
  return absl::UnimplementedError(
      "this daemon is too old to estimate a restore: make a plan, with leaves_only");
}

}  // namespace ckpt
