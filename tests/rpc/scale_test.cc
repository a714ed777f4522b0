// A real daemon over a checkpoint of a million tensors and a catalogue of ten thousand checkpoints:
// listing, filtering, partial restore, deletion, restart and saving, and how much memory that
// takes. Times are printed, not asserted.
#include <malloc.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <fstream>
#include <iostream>
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
#include "client/client.h"
#include "common/key.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/large_catalogue.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

// Sanitizers and builds without optimization take tens of times as long: there it is the same test,
// but no measure.
#ifdef CKPT_FULL_SCALE
constexpr bool kFullScale = true;
#else
constexpr bool kFullScale = false;
#endif
constexpr testing::CatalogueCounts kCounts =
    kFullScale ? testing::CatalogueCounts{}
               : testing::CatalogueCounts{.tensors_per_rank = 5'000, .checkpoints = 200};
constexpr uint64_t kResidentBytesMax = uint64_t{256} << 20;

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
    auto made = testing::MakeLargeCatalogue(data_, kCounts);
    ASSERT_TRUE(made.ok()) << made.status();
    made_ = *std::move(made);
    Report("commit of the large checkpoint", absl::ToDoubleMilliseconds(made_.commit_time));
    Report("made", watch.Milliseconds());
    auto daemon = testing::Daemon::Start({.memory_budget = "64MiB",
                                          .log_level = "info",
                                          .data_folder = data_,
                                          .start_timeout = absl::Minutes(3)});
    ASSERT_TRUE(daemon.ok()) << daemon.status();
    daemon_ = *std::move(daemon);
    Connect();
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

  // Page by page.
  uint64_t CheckpointsOf(const std::string& run) {
    uint64_t listed = 0;
    std::string token;
    do {
      const Watch watch;
      const auto page = ListPage(run, token);
      if (run == testing::CatalogueRun(0) && token.empty()) {
        Report("page of 100 checkpoints", watch.Milliseconds());
      }
      listed += static_cast<uint64_t>(page.checkpoints_size());
      token = page.next_page_token();
    } while (!token.empty());
    return listed;
  }

  static v1::PlanRestoreRequest PlanOf(const CheckpointId& id) {
    v1::PlanRestoreRequest request;
    request.mutable_selector()->set_run(id.run);
    request.mutable_selector()->set_step(id.step);
    return request;
  }
  static v1::PlanRestoreRequest PlanOfLarge() { return PlanOf(testing::LargeCheckpoint()); }

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

  // Of one tensor of the last rank, as a tool reads it: by key, over the socket.
  std::string ReadTensor(const CheckpointId& id, const std::string& key) {
    v1::PlanRestoreRequest request = PlanOf(id);
    v1::Key* named = request.mutable_selection()->add_keys();
    for (const absl::string_view segment : absl::StrSplit(key, '.')) {
      named->add_segments()->set_name(std::string(segment));
    }
    if (id == testing::LargeCheckpoint()) {
      request.mutable_selection()->add_exclude_matching()->add_ranks(0);
    }
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

  // From `ranks` clients, each with `tensors` of its own that all hold `data`.
  void Save(const CheckpointId& id, uint32_t ranks, uint32_t tensors,
            const std::array<float, 2>& data) {
    std::vector<std::unique_ptr<Client>> clients;
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      auto client = Client::Connect({.socket = daemon_->socket()});
      ASSERT_TRUE(client.ok()) << client.status();
      clients.push_back(*std::move(client));
    }
    std::vector<SaveHandle> saves;
    const Watch watch;
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      Part part{.rank = rank, .world_size = ranks};
      part.leaves.reserve(tensors);
      for (uint32_t i = 0; i < tensors; ++i) {
        part.leaves.push_back(TensorLeaf(testing::LargeTensorKey(i), v1::DTYPE_F32, {data.size()},
                                         data.data(), v1::PLACEMENT_PER_RANK));
      }
      auto save = clients[rank]->Save(id, std::move(part), {});
      ASSERT_TRUE(save.ok()) << save.status();
      saves.push_back(*std::move(save));
    }
    for (SaveHandle& save : saves) ASSERT_TRUE(save.AwaitCommitted().ok()) << save.status();
    Report(absl::StrCat("save of ", ranks * tensors, " tensors"), watch.Milliseconds());
  }

  void Delete(const CheckpointId& id) {
    v1::DeleteCheckpointRequest deletion;
    *deletion.mutable_selector() = PlanOf(id).selector();
    const Watch watch;
    Ask<v1::DeleteCheckpointResponse>(&v1::CatalogService::Stub::DeleteCheckpoint, deletion);
    Report(absl::StrCat("deletion of ", id.run, "@", id.step), watch.Milliseconds());
  }

  // Of a process's own memory: what it has allocated and its program, but nothing it shares, so not
  // the daemon's memory tier.
  static uint64_t ResidentBytes(int pid) {
    std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
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
    const uint64_t bytes = ResidentBytes(daemon_->pid());
    std::cout << absl::StreamFormat("[ SCALE    ] resident after %-43s %9.1f MiB\n", after,
                                    static_cast<double>(bytes) / (1 << 20));
    ASSERT_GT(bytes, 0u);
    if (kFullScale) {
      EXPECT_LT(bytes, kResidentBytesMax) << after;
    }
  }

  const TemporaryFolder folder_;
  const std::string data_ = folder_.path() + "/data";
  testing::LargeCatalogue made_;
  std::unique_ptr<testing::Daemon> daemon_;
  std::unique_ptr<v1::CatalogService::Stub> catalog_;
  std::unique_ptr<v1::RestoreService::Stub> restore_;
};

TEST_F(ScaleTest, AMillionTensorsAndTenThousandCheckpoints) {
  ExpectModest("the start");

  // The first tensor, of a daemon that has read nothing yet; the channel is there.
  Ask<v1::ListRunsResponse>(&v1::CatalogService::Stub::ListRuns, v1::ListRunsRequest());
  for (const uint32_t i : {3u, kCounts.tensors_per_rank / 2, 7u}) {
    const std::string key = PrintKey(testing::LargeTensorKey(i));
    const Watch watch;
    const std::string bytes = ReadTensor(testing::LargeCheckpoint(), key);
    Report(absl::StrCat("one tensor (", key, ")"), watch.Milliseconds());
    const auto expected = testing::LargeTensorBytes(*made_.layout, 1, i);
    ASSERT_TRUE(expected.ok()) << expected.status();
    EXPECT_EQ(bytes, *expected) << key;
  }

  // Checkpoints, page by page.
  uint64_t listed = 0;
  for (uint32_t run = 0; run < kCounts.runs; ++run) {
    listed += CheckpointsOf(testing::CatalogueRun(run));
  }
  EXPECT_EQ(listed, kCounts.checkpoints);
  {
    const Watch watch;
    const auto runs =
        Ask<v1::ListRunsResponse>(&v1::CatalogService::Stub::ListRuns, v1::ListRunsRequest());
    Report("list of runs", watch.Milliseconds());
    EXPECT_EQ(runs.runs_size(), static_cast<int>(kCounts.runs) + 1);
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
    EXPECT_EQ(seen, kCounts.checkpoints + 1);
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
    EXPECT_EQ(Stream(request, leaves, pieces).tensors(), 10 * 10 * kCounts.ranks);
    Report("dry run of a glob with a beginning", watch.Milliseconds());
  }
  request.mutable_selection()->set_include(0, "**.block7.weight");
  {
    const Watch watch;
    EXPECT_EQ(Stream(request, leaves, pieces).tensors(),
              kCounts.tensors_per_rank / 10 * kCounts.ranks);
    Report("dry run of a glob without one", watch.Milliseconds());
  }
  ExpectModest("globs");
  request = PlanOfLarge();
  for (int turn = 0; turn < 2; ++turn) {
    const Watch watch;
    const v1::PlanSummary summary = Stream(request, leaves, pieces);
    Report("plan of everything, streamed", watch.Milliseconds());
    EXPECT_EQ(leaves, uint64_t{kCounts.tensors_per_rank} * kCounts.ranks);
    EXPECT_EQ(pieces, leaves);
    EXPECT_EQ(summary.bytes(), leaves * testing::kCatalogueTensorBytes);
    EXPECT_EQ(summary.bytes_from_disk(), leaves * testing::kCatalogueTensorBytes);
  }
  ExpectModest("two plans of everything, both open");

  // A client holds the plan of what it asks for, and nothing of the rest.
  {
    auto client = Client::Connect({.socket = daemon_->socket()});
    ASSERT_TRUE(client.ok()) << client.status();
    malloc_trim(0);
    uint64_t before = ResidentBytes(getpid());
    RestoreOptions one;
    *one.selection.add_keys() = testing::LargeTensorKey(kCounts.tensors_per_rank / 2);
    auto plan = (*client)->PlanRestore(PlanOfLarge().selector(), one);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ((*plan)->leaves().size(), kCounts.ranks);
    const uint64_t plan_of_one = ResidentBytes(getpid()) - before;
    if (kFullScale) {
      EXPECT_LT(plan_of_one, uint64_t{1} << 20);
    }
    before = ResidentBytes(getpid());
    const Watch watch;
    plan = (*client)->PlanRestore(PlanOfLarge().selector(), {});
    ASSERT_TRUE(plan.ok()) << plan.status();
    const double milliseconds = watch.Milliseconds();
    const size_t tensors = (*plan)->leaves().size();
    EXPECT_EQ(tensors, uint64_t{kCounts.tensors_per_rank} * kCounts.ranks);
    const uint64_t plan_of_all = ResidentBytes(getpid()) - before;
    Report(absl::StrCat("plan of everything, in a client that keeps it: ", plan_of_all / tensors,
                        " bytes a tensor"),
           milliseconds);
    if (kFullScale) {
      EXPECT_LT(plan_of_all / tensors, 1280u);
    }
  }

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
  Delete(testing::LargeCheckpoint());
  ExpectModest("the deletion");
  const Watch watch;
  ASSERT_TRUE(daemon_->Restart().ok()) << daemon_->Log();
  Report("restart", watch.Milliseconds());
  Connect();
  EXPECT_EQ(ListPage(testing::CatalogueRun(3), "").checkpoints_size(),
            std::min<int>(100, kCounts.checkpoints / kCounts.runs));
  EXPECT_EQ(
      Ask<v1::ListRunsResponse>(&v1::CatalogService::Stub::ListRuns, v1::ListRunsRequest())
          .runs_size(),
      static_cast<int>(kCounts.runs));
  ExpectModest("the restart");

  // Saves beside ten thousand checkpoints: one as small as they are, and a million tensors.
  const CheckpointId small{testing::CatalogueRun(3), 1'000'000, Incarnation::TimeOrdered()};
  const CheckpointId large{"saved", 1, Incarnation::TimeOrdered()};
  const std::array<float, 2> data = {1.5f, -2.5f};
  const std::string expected(reinterpret_cast<const char*>(data.data()), sizeof(data));
  Save(small, 1, kCounts.tensors_of_each, data);
  Save(large, 1, kCounts.tensors_per_rank * kCounts.ranks, data);
  for (const CheckpointId& id : {small, large}) {
    const std::string key = PrintKey(testing::LargeTensorKey(kCounts.tensors_of_each - 1));
    const Watch one;
    EXPECT_EQ(ReadTensor(id, key), expected);
    Report(absl::StrCat("one tensor of ", id.run, "@", id.step), one.Milliseconds());
    Delete(id);
  }
  Delete({testing::CatalogueRun(3), 10, Incarnation()});  // and one that was there before
  EXPECT_EQ(CheckpointsOf(testing::CatalogueRun(3)), kCounts.checkpoints / kCounts.runs - 1);
}

}  // namespace
}  // namespace ckpt
