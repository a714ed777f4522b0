// A real daemon over a checkpoint of a million tensors and a catalogue of ten thousand checkpoints:
// listing, filtering, partial restore, deletion and restart, and how much memory that takes. Times
// are printed, not asserted.
#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "ckpt/v1/restore.grpc.pb.h"
#include "common/digest.h"
#include "common/key.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "tests/fixtures/daemon.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

// Sanitizers and builds without optimization take tens of times as long: there it is the same test,
// but no measure.
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr bool kFullScale = true;
#else
constexpr bool kFullScale = false;
#endif
constexpr uint32_t kTensorsPerRank = kFullScale ? 500'000 : 5'000;
constexpr uint32_t kRanks = 2;
constexpr uint32_t kCheckpoints = kFullScale ? 10'000 : 200;
constexpr uint32_t kTensorsOfEach = 1000;
constexpr uint32_t kRuns = 10;
constexpr uint64_t kResidentBytesMax = uint64_t{256} << 20;
constexpr uint64_t kTensorBytes = 8;

std::string TensorKey(uint32_t i) {
  return absl::StrFormat("model.layers.%d.block%d.weight", i / 10, i % 10);
}

std::shared_ptr<const PartLayout> LayoutOf(uint32_t tensors, absl::string_view root) {
  v1::Layout layout;
  for (uint32_t i = 0; i < tensors; ++i) {
    v1::Leaf* leaf = layout.add_leaves();
    *leaf->mutable_key() = MakeKey({root, "layers", absl::StrCat(i / 10),
                                    absl::StrCat("block", i % 10), "weight"});
    leaf->set_kind(v1::LEAF_KIND_TENSOR);
    leaf->set_placement(v1::PLACEMENT_PER_RANK);
    leaf->set_dtype(v1::DTYPE_F32);
    leaf->add_shape(kTensorBytes / 4);
    v1::Shard* shard = layout.add_shards();
    shard->set_leaf(i);
    shard->mutable_box()->add_offset(0);
    shard->mutable_box()->add_extent(kTensorBytes / 4);
  }
  return *PartLayout::FromProto(std::move(layout));
}

class Watch {
 public:
  double Milliseconds() const { return absl::ToDoubleMilliseconds(absl::Now() - begin_); }

 private:
  const absl::Time begin_ = absl::Now();
};

void Report(absl::string_view what, double milliseconds) {
  std::cout << absl::StreamFormat("[ SCALE    ] %-58s %9.2f ms\n", what, milliseconds);
}

class ScaleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const Watch watch;
    auto store = Store::Open(data_);
    ASSERT_TRUE(store.ok()) << store.status();
    SaveLarge(**store);
    SaveCatalogue(**store);
    store->reset();
    Report("made", watch.Milliseconds());
    auto daemon = testing::Daemon::Start({.memory_budget = "64MiB",
                                          .log_level = "info",
                                          .data_folder = data_,
                                          .start_timeout = absl::Minutes(3)});
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
    Connect();
  }

  void SaveLarge(Store& store) {
    const CheckpointId id = IdOf("large", 1);
    const CheckpointUid uid = CheckpointUid::TimeOrdered();
    const auto layout = LayoutOf(kTensorsPerRank, "model");
    bytes_of_rank_1_ = PartBytes(*layout, 2).substr(0, 1 << 20);
    layout_ = layout;
    std::vector<DurablePart> parts;
    for (uint32_t rank = 0; rank < kRanks; ++rank) {
      auto part = store.Persist(MakePart(id, uid, layout, rank + 1, rank, kRanks));
      ASSERT_TRUE(part.ok()) << part.status();
      parts.push_back(*std::move(part));
    }
    store.index().KeepLayout(layout);  // as a daemon does when a plan arrives
    const Watch watch;
    const auto record = store.persister().Commit(id, uid, kRanks, {0, 1}, parts);
    ASSERT_TRUE(record.ok()) << record.status();
    Report("commit of the large checkpoint", watch.Milliseconds());
  }

  // As commits leave them, but for the part manifests' files and the tensors.
  void SaveCatalogue(Store& store) {
    std::map<uint32_t, std::vector<v1::PartManifest>> parts;  // by run: little of them changes
    for (uint32_t i = 0; i < kCheckpoints; ++i) {
      const CheckpointUid uid = CheckpointUid::TimeOrdered();
      const CheckpointId id = IdOf(absl::StrCat("team/run-", i % kRuns), 10 + i / kRuns);
      const auto& layout = LayoutOfRun(i % kRuns);
      v1::CheckpointManifest manifest;
      manifest.set_format_version(1);
      *manifest.mutable_id() = id.ToProto();
      manifest.set_checkpoint_uid(uid.bytes());
      manifest.set_world_size(1);
      manifest.add_share(0);
      v1::PartReference* reference = manifest.add_parts();
      reference->set_manifest_id(FileId::Random().bytes());
      reference->set_data_bytes(layout->data_bytes());
      std::vector<v1::PartManifest>& of_run = parts[i % kRuns];
      if (of_run.empty()) {
        *of_run.emplace_back().mutable_layout() = layout->proto();
        of_run[0].set_world_size(1);
        of_run[0].add_share(0);
        of_run[0].set_layout_digest(layout->digest());
        of_run[0].set_block_bytes(1 << 20);
        of_run[0].add_files()->set_shard_count(kTensorsOfEach);
        of_run[0].mutable_block_hashes()->Resize(static_cast<int>(layout->block_count()), 0);
      }
      v1::PartManifest& part = of_run[0];
      *part.mutable_id() = id.ToProto();
      part.set_checkpoint_uid(uid.bytes());
      part.mutable_files(0)->set_file_id(FileId::Random().bytes());
      for (int b = 0; b < part.block_hashes_size(); ++b) {
        part.set_block_hashes(b, Xxh3(absl::StrCat(i, " ", b)));
      }
      ASSERT_TRUE(store.folder().PublishCheckpointManifest(manifest).ok());
      const absl::Status put = store.index().PutCheckpoint(manifest, of_run, {});
      ASSERT_TRUE(put.ok()) << put;
    }
  }

  const std::shared_ptr<const PartLayout>& LayoutOfRun(uint32_t run) {
    auto& layout = layouts_[run];
    if (layout == nullptr) layout = LayoutOf(kTensorsOfEach, absl::StrCat("net", run));
    return layout;
  }

  void Connect() {
    auto channel = grpc::CreateChannel("unix:" + daemon_->socket(),
                                       grpc::InsecureChannelCredentials());
    catalog_ = v1::CatalogService::NewStub(channel);
    restore_ = v1::RestoreService::NewStub(channel);
  }

  template <typename Response, typename Request, typename Call>
  Response Ask(Call call, const Request& request) {
    grpc::ClientContext context;
    Response response;
    const grpc::Status status = (catalog_.get()->*call)(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  v1::ListCheckpointsResponse ListPage(const std::string& run, const std::string& token) {
    v1::ListCheckpointsRequest request;
    request.set_run(run);
    request.set_page_size(100);
    request.set_page_token(token);
    return Ask<v1::ListCheckpointsResponse>(&v1::CatalogService::Stub::ListCheckpoints, request);
  }

  static v1::PlanRestoreRequest PlanOfLarge() {
    v1::PlanRestoreRequest request;
    request.mutable_selector()->set_run("large");
    request.mutable_selector()->set_step(1);
    return request;
  }

  // Without keeping it.
  v1::PlanSummary Stream(const v1::PlanRestoreRequest& request, uint64_t& leaves,
                         uint64_t& pieces) {
    grpc::ClientContext context;
    const auto reader = restore_->PlanRestore(&context, request);
    v1::PlanSummary summary;
    leaves = pieces = 0;
    for (v1::PlanRestoreResponse response; reader->Read(&response);) {
      leaves += static_cast<uint64_t>(response.leaves().leaves_size());
      pieces += static_cast<uint64_t>(response.pieces().pieces_size());
      if (response.has_summary()) summary = response.summary();
    }
    const grpc::Status status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return summary;
  }

  // Of one tensor, as a tool reads it: by key, over the socket.
  std::string ReadTensor(const std::string& key) {
    v1::PlanRestoreRequest request = PlanOfLarge();
    v1::Key* named = request.mutable_selection()->add_keys();
    for (const absl::string_view segment : absl::StrSplit(key, '.')) {
      named->add_segments()->set_name(std::string(segment));
    }
    request.mutable_selection()->add_exclude_matching()->add_ranks(0);
    grpc::ClientContext context;
    const auto reader = restore_->PlanRestore(&context, request);
    v1::ReadPiecesRequest read;
    for (v1::PlanRestoreResponse response; reader->Read(&response);) {
      if (response.has_header()) read.set_plan_id(response.header().plan_id());
      for (const v1::Piece& piece : response.pieces().pieces()) {
        v1::PieceRange* range = read.add_ranges();
        range->set_piece_number(piece.piece_number());
        range->set_length(piece.length());
      }
    }
    EXPECT_TRUE(reader->Finish().ok());
    grpc::ClientContext read_context;
    const auto chunks = restore_->ReadPieces(&read_context, read);
    std::string bytes;
    for (v1::ReadPiecesResponse chunk; chunks->Read(&chunk);) bytes += chunk.data();
    EXPECT_TRUE(chunks->Finish().ok());
    return bytes;
  }

  // Of the daemon's own memory: what it has allocated and its program, but not the memory tier.
  uint64_t ResidentBytes() const {
    std::ifstream status(absl::StrCat("/proc/", daemon_->pid(), "/status"));
    uint64_t bytes = 0;
    for (std::string word; status >> word;) {
      uint64_t kilobytes = 0;
      if (word == "RssAnon:" || word == "RssFile:") {
        status >> kilobytes;
        bytes += kilobytes << 10;
      }
    }
    return bytes;
  }
  void ExpectModest(absl::string_view after) {
    const uint64_t bytes = ResidentBytes();
    std::cout << absl::StreamFormat("[ SCALE    ] resident after %-43s %9.1f MiB\n", after,
                                    static_cast<double>(bytes) / (1 << 20));
    ASSERT_GT(bytes, 0u);
    if (kFullScale) {
      EXPECT_LT(bytes, kResidentBytesMax) << after;
    }
  }

  const TemporaryFolder folder_;
  const std::string data_ = folder_.path() + "/data";
  std::map<uint32_t, std::shared_ptr<const PartLayout>> layouts_;
  std::shared_ptr<const PartLayout> layout_;
  std::string bytes_of_rank_1_;
  std::unique_ptr<testing::Daemon> daemon_;
  std::unique_ptr<v1::CatalogService::Stub> catalog_;
  std::unique_ptr<v1::RestoreService::Stub> restore_;
};

TEST_F(ScaleTest, AMillionTensorsAndTenThousandCheckpoints) {
  ExpectModest("the start");

  // The first tensor, of a daemon that has read nothing yet; the channel is there.
  Ask<v1::ListRunsResponse>(&v1::CatalogService::Stub::ListRuns, v1::ListRunsRequest());
  const auto position_of = [&](const std::string& key) {
    const auto keys = layout_->printed_keys();
    for (size_t s = 0; s < layout_->shards().size(); ++s) {
      if (keys[layout_->proto().shards(static_cast<int>(s)).leaf()] == key) {
        return layout_->shards()[s].part_offset;
      }
    }
    return uint64_t{0};
  };
  for (const uint32_t i : {3u, kTensorsPerRank / 2, 7u}) {
    const Watch watch;
    const std::string bytes = ReadTensor(TensorKey(i));
    Report(absl::StrCat("one tensor (", TensorKey(i), ")"), watch.Milliseconds());
    ASSERT_EQ(bytes.size(), kTensorBytes);
    const uint64_t offset = position_of(TensorKey(i));
    if (offset + kTensorBytes <= bytes_of_rank_1_.size()) {
      EXPECT_EQ(bytes, bytes_of_rank_1_.substr(offset, kTensorBytes));
    }
  }

  // Checkpoints, page by page.
  uint64_t listed = 0;
  for (uint32_t run = 0; run < kRuns; ++run) {
    std::string token;
    do {
      const Watch watch;
      const auto page = ListPage(absl::StrCat("team/run-", run), token);
      if (run < 2 && token.empty()) Report("page of 100 checkpoints", watch.Milliseconds());
      listed += static_cast<uint64_t>(page.checkpoints_size());
      token = page.next_page_token();
    } while (!token.empty());
  }
  EXPECT_EQ(listed, kCheckpoints);
  {
    const Watch watch;
    const auto runs =
        Ask<v1::ListRunsResponse>(&v1::CatalogService::Stub::ListRuns, v1::ListRunsRequest());
    Report("list of runs", watch.Milliseconds());
    EXPECT_EQ(runs.runs_size(), static_cast<int>(kRuns) + 1);
  }
  {
    grpc::ClientContext context;
    const Watch watch;
    const auto reader = catalog_->WatchCheckpoints(&context, v1::WatchCheckpointsRequest());
    uint64_t seen = 0;
    for (v1::WatchCheckpointsResponse change; reader->Read(&change) && !change.snapshot_end();) {
      ++seen;
    }
    Report("what a watcher is sent first", watch.Milliseconds());
    EXPECT_EQ(seen, kCheckpoints + 1);
    context.TryCancel();
  }
  ExpectModest("listing checkpoints");

  // Tensors: pages, a glob, all.
  v1::ListTensorsRequest tensors;
  *tensors.mutable_selector() = PlanOfLarge().selector();
  tensors.set_page_size(1000);
  std::string last;
  for (int page_number = 0; page_number < 5; ++page_number) {
    const Watch watch;
    const auto page =
        Ask<v1::ListTensorsResponse>(&v1::CatalogService::Stub::ListTensors, tensors);
    if (page_number == 4) Report("page of 1000 tensors", watch.Milliseconds());
    ASSERT_EQ(page.tensors_size(), 1000);
    EXPECT_GE(PrintKey(page.tensors(0).leaf().key()), last);
    last = PrintKey(page.tensors(999).leaf().key());
    tensors.set_page_token(page.next_page_token());
  }
  uint64_t leaves = 0;
  uint64_t pieces = 0;
  v1::PlanRestoreRequest request = PlanOfLarge();
  request.set_summary_only(true);
  request.mutable_selection()->add_include("model.layers.12?.**");
  {
    const Watch watch;
    EXPECT_EQ(Stream(request, leaves, pieces).tensors(), 10 * 10 * kRanks);
    Report("dry run of a glob with a beginning", watch.Milliseconds());
  }
  request.mutable_selection()->set_include(0, "**.block7.weight");
  {
    const Watch watch;
    EXPECT_EQ(Stream(request, leaves, pieces).tensors(), kTensorsPerRank / 10 * kRanks);
    Report("dry run of a glob without one", watch.Milliseconds());
  }
  ExpectModest("globs");
  request = PlanOfLarge();
  for (int turn = 0; turn < 2; ++turn) {
    const Watch watch;
    const v1::PlanSummary summary = Stream(request, leaves, pieces);
    Report("plan of everything, streamed", watch.Milliseconds());
    EXPECT_EQ(leaves, uint64_t{kTensorsPerRank} * kRanks);
    EXPECT_EQ(pieces, leaves);
    EXPECT_EQ(summary.bytes(), leaves * kTensorBytes);
    EXPECT_EQ(summary.bytes_from_disk(), leaves * kTensorBytes);
  }
  ExpectModest("two plans of everything, both open");

  // A key that is not there is told with the nearest, and at once.
  {
    grpc::ClientContext context;
    v1::PlanRestoreRequest wrong = PlanOfLarge();
    *wrong.mutable_selection()->add_keys() =
        MakeKey({"model", "layers", "77", "block3", "wieght"});
    const Watch watch;
    const auto reader = restore_->PlanRestore(&context, wrong);
    v1::PlanRestoreResponse response;
    EXPECT_FALSE(reader->Read(&response));
    const grpc::Status status = reader->Finish();
    Report("nearest names of a key that is not there", watch.Milliseconds());
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_THAT(status.error_message(), ::testing::HasSubstr("model.layers.77.block3.weight"));
  }

  // Deletion, and a start after it.
  {
    v1::DeleteCheckpointRequest deletion;
    *deletion.mutable_selector() = PlanOfLarge().selector();
    const Watch watch;
    Ask<v1::DeleteCheckpointResponse>(&v1::CatalogService::Stub::DeleteCheckpoint, deletion);
    Report("deletion of the large checkpoint", watch.Milliseconds());
  }
  ExpectModest("the deletion");
  const Watch watch;
  ASSERT_TRUE(daemon_->Restart().ok()) << daemon_->Log();
  Report("restart", watch.Milliseconds());
  Connect();
  EXPECT_EQ(ListPage("team/run-3", "").checkpoints_size(),
            std::min<int>(100, kCheckpoints / kRuns));
  EXPECT_EQ(
      Ask<v1::ListRunsResponse>(&v1::CatalogService::Stub::ListRuns, v1::ListRunsRequest())
          .runs_size(),
      static_cast<int>(kRuns));
  ExpectModest("the restart");
}

}  // namespace
}  // namespace ckpt
