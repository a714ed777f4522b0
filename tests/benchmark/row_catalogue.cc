// Metadata at scale: a daemon on a checkpoint of a million shards and a catalogue of ten thousand
// checkpoints. The first tensor after a restart, a page of checkpoints, and the daemon's memory.
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "ckpt/v1/restore.grpc.pb.h"
#include "common/key.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"
#include "tests/fixtures/large_catalogue.h"

namespace ckpt::bench {
namespace {

constexpr double kFirstTensorSeconds = 5e-3;  // beside one read of the disk
constexpr double kPageMilliseconds = 10;
constexpr double kResidentMiB = 256;
constexpr int kPageItems = 100;
constexpr uint32_t kRank = 1;  // whose tensors are asked for

absl::Status FromGrpc(const grpc::Status& status) {
  return {static_cast<absl::StatusCode>(status.error_code()), status.error_message()};
}

struct Catalogue {
  testing::CatalogueCounts counts;
  testing::LargeCatalogue made;
  std::unique_ptr<BenchDaemon> daemon;

  std::string Text() const {
    return absl::StrCat(counts.ranks * counts.tensors_per_rank, " shards in one checkpoint of ",
                        counts.ranks, " ranks, and ", counts.checkpoints, " checkpoints of ",
                        counts.tensors_of_each, " tensors each");
  }
};

// Made in memory, where the syncs of ten thousand commits cost nothing, and copied to the disk.
absl::Status MakeOnDisk(const Options& options, const std::string& folder, Catalogue& catalogue) {
  namespace fs = std::filesystem;
  std::string draft = absl::StrCat(options.memory_dir, "/ckpt_bench-XXXXXX");
  if (mkdtemp(draft.data()) == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("cannot make ", draft));
  }
  std::error_code error;
  const auto remove = absl::MakeCleanup([&draft, &error] { fs::remove_all(draft, error); });
  CKPT_ASSIGN_OR_RETURN(catalogue.made, testing::MakeLargeCatalogue(draft, catalogue.counts));
  fs::copy(draft, folder, fs::copy_options::recursive, error);
  if (error) return absl::UnknownError(absl::StrCat("copying to ", folder, ": ", error.message()));
  sync();  // only clean pages can be dropped from the cache
  return absl::OkStatus();
}

absl::StatusOr<Catalogue> Make(Bench& bench) {
  Catalogue catalogue;
  catalogue.counts.tensors_per_rank = bench.Scaled(catalogue.counts.tensors_per_rank, 5000);
  catalogue.counts.checkpoints = bench.Scaled(catalogue.counts.checkpoints, 200);
  catalogue.counts.runs = std::max(1u, catalogue.counts.checkpoints / 1000);
  CKPT_ASSIGN_OR_RETURN(catalogue.daemon,
                        BenchDaemon::StartOn(bench.options(), [&](const std::string& folder) {
                          return MakeOnDisk(bench.options(), folder, catalogue);
                        }));
  return catalogue;
}

struct FirstTensor {
  double connect = 0;  // seconds
  double plan = 0;
  double read = 0;
  std::string bytes;
};

// Of a daemon that has served nobody but the question whether it is up.
absl::StatusOr<FirstTensor> ReadFirstTensor(const BenchDaemon& daemon, uint32_t i) {
  const v1::Key key = testing::LargeTensorKey(i);
  RestoreOptions options;
  *options.selection.add_keys() = key;
  FirstTensor result;
  result.bytes.resize(testing::kCatalogueTensorBytes);
  const double begin = Now();
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, daemon.Connect());
  const double connected = Now();
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<RestorePlan> plan,
                        client->PlanRestore(SelectorOf(testing::LargeCheckpoint()), options));
  CKPT_ASSIGN_OR_RETURN(const uint32_t leaf, plan->Find(PrintKey(key), kRank));
  const double planned = Now();
  ReadTarget target;
  target.leaf_number = leaf;
  const uint64_t shape[] = {testing::kCatalogueTensorBytes / 4};
  target.region = Box::Whole(shape);
  target.out = reinterpret_cast<std::byte*>(result.bytes.data());
  CKPT_RETURN_IF_ERROR(plan->Read({&target, 1}));
  result.read = Now() - planned;
  result.plan = planned - connected;
  result.connect = connected - begin;
  return result;
}

absl::Status FirstTensorLine(Bench& bench, Catalogue& catalogue) {
  bench.printer().Note("the first tensor after a restart");
  std::vector<double> connect, plan, read, cold_index;
  uint32_t turn = 0;
  // Another tensor at each turn, from all over the checkpoint.
  const auto next = [&] { return ++turn * 7919 * 61 % catalogue.counts.tensors_per_rank; };
  const auto restart_and_read = [&](bool drop_index) -> absl::StatusOr<FirstTensor> {
    const uint32_t i = next();
    CKPT_RETURN_IF_ERROR(catalogue.daemon->Restart(/*forget_memory=*/true));
    CKPT_RETURN_IF_ERROR(DropFromCache(catalogue.daemon->DataFiles()));
    if (drop_index) CKPT_RETURN_IF_ERROR(DropFromCache(catalogue.daemon->IndexFiles()));
    CKPT_ASSIGN_OR_RETURN(FirstTensor first, ReadFirstTensor(*catalogue.daemon, i));
    CKPT_ASSIGN_OR_RETURN(const std::string expected,
                          testing::LargeTensorBytes(*catalogue.made.layout, kRank, i));
    if (first.bytes != expected) return absl::DataLossError("the first tensor is another");
    return first;
  };
  const auto measured = [&]() -> absl::StatusOr<double> {
    CKPT_ASSIGN_OR_RETURN(const FirstTensor first, restart_and_read(false));
    connect.push_back(first.connect);
    plan.push_back(first.plan);
    read.push_back(first.read);
    return first.connect + first.plan + first.read;
  };
  std::vector<double> raw;
  const auto allowed = [&]() -> absl::StatusOr<double> {
    const std::vector<std::string> files = catalogue.daemon->DataFiles();
    if (files.empty()) return absl::InternalError("no data files in the data folder");
    const std::string& file = files[turn % files.size()];
    std::error_code error;
    const uint64_t bytes = std::filesystem::file_size(file, error);
    CKPT_RETURN_IF_ERROR(DropFromCache({file}));
    CKPT_ASSIGN_OR_RETURN(const double seconds, RawReadPage(file, bytes / 1000 * (next() % 1000)));
    raw.push_back(seconds);
    return kFirstTensorSeconds + seconds;
  };
  CKPT_ASSIGN_OR_RETURN(const Pairs pairs, MeasurePairs(bench.options().pairs, measured, allowed));
  for (int i = 0; i < bench.options().pairs; ++i) {
    CKPT_RETURN_IF_ERROR(CheckInterrupt());
    CKPT_ASSIGN_OR_RETURN(const FirstTensor first, restart_and_read(true));
    cold_index.push_back(first.connect + first.plan + first.read);
  }
  bench.printer().Print(
      {"first_tensor", pairs.MeasuredOverBaseline(), "ratio",
       "5 ms and one read of 4 KiB of the same files past the page cache, one thread",
       Bar{1, false},
       absl::StrCat("of ", catalogue.Text(),
                    "; the daemon restarted before each; from connecting until ",
                    testing::kCatalogueTensorBytes,
                    " verified bytes are there: connection, plan of one key, read; threads: 2; "
                    "data files dropped from the page cache, the index's are not"),
       absl::StrCat(PrintSeconds(Median(pairs.measured)), " (connect ",
                    PrintSeconds(Median(connect)), ", plan ", PrintSeconds(Median(plan)), ", read ",
                    PrintSeconds(Median(read)), "), slowest ",
                    PrintSeconds(*std::max_element(pairs.measured.begin(), pairs.measured.end())),
                    "; the raw read ", PrintSeconds(Median(raw)),
                    "; with the index's files dropped too: ", PrintSeconds(Median(cold_index)))});
  return absl::OkStatus();
}

absl::Status ListPageLine(Bench& bench, const Catalogue& catalogue) {
  bench.printer().Note("pages of checkpoints");
  const auto stub = v1::CatalogService::NewStub(catalogue.daemon->Channel());
  std::vector<double> seconds;  // of full pages
  uint64_t listed = 0;
  for (uint32_t run = 0; run < catalogue.counts.runs; ++run) {
    v1::ListCheckpointsRequest request;
    request.set_run(testing::CatalogueRun(run));
    request.set_page_size(kPageItems);
    do {
      CKPT_RETURN_IF_ERROR(CheckInterrupt());
      grpc::ClientContext context;
      v1::ListCheckpointsResponse page;
      const double begin = Now();
      const grpc::Status status = stub->ListCheckpoints(&context, request, &page);
      const double took = Now() - begin;
      CKPT_RETURN_IF_ERROR(FromGrpc(status));
      if (page.checkpoints_size() == kPageItems) seconds.push_back(took);
      listed += static_cast<uint64_t>(page.checkpoints_size());
      request.set_page_token(page.next_page_token());
    } while (!request.page_token().empty());
  }
  if (listed != catalogue.counts.checkpoints || seconds.empty()) {
    return absl::InternalError(absl::StrCat(listed, " checkpoints are listed"));
  }
  bench.printer().Print(
      {"list_page", Median(seconds) * 1e3, "ms", "nothing", Bar{kPageMilliseconds, false},
       absl::StrCat("a page of ", kPageItems, " out of ", catalogue.Text(),
                    "; one call at a time from one thread, every page of every run once"),
       absl::StrCat("median of ", seconds.size(), " pages; the first ",
                    PrintSeconds(seconds.front()), ", slowest ",
                    PrintSeconds(*std::max_element(seconds.begin(), seconds.end())))});
  return absl::OkStatus();
}

// A plan of the large checkpoint, streamed and not kept here; its tensors.
absl::StatusOr<uint64_t> StreamPlan(v1::RestoreService::Stub& stub, const std::string& glob,
                                    bool summary_only) {
  v1::PlanRestoreRequest request;
  *request.mutable_selector() = SelectorOf(testing::LargeCheckpoint());
  request.set_summary_only(summary_only);
  if (!glob.empty()) request.mutable_selection()->add_include(glob);
  grpc::ClientContext context;
  const auto reader = stub.PlanRestore(&context, request);
  uint64_t tensors = 0;
  for (v1::PlanRestoreResponse response; reader->Read(&response);) {
    if (response.has_summary()) tensors = response.summary().tensors();
  }
  CKPT_RETURN_IF_ERROR(FromGrpc(reader->Finish()));
  if (tensors == 0) return absl::InternalError("a plan without tensors");
  return tensors;
}

// The glob of the row "glob", but where the keys are rows of the index, which is read for it.
absl::Status GlobThroughDaemonLine(Bench& bench, const Catalogue& catalogue) {
  bench.printer().Note("a glob over the index");
  const auto stub = v1::RestoreService::NewStub(catalogue.daemon->Channel());
  const double leaves =
      static_cast<double>(catalogue.counts.ranks) * catalogue.counts.tensors_per_rank;
  std::vector<double> seconds;
  uint64_t matched = 0;
  for (int i = 0; i < bench.options().pairs; ++i) {
    CKPT_RETURN_IF_ERROR(CheckInterrupt());
    const double begin = Now();
    CKPT_ASSIGN_OR_RETURN(matched, StreamPlan(*stub, "**.block7.weight", true));
    seconds.push_back(Now() - begin);
  }
  const double median = Median(seconds);
  bench.printer().Print(
      {"glob_through_daemon", leaves / median / 1e6, "M keys/s", "nothing", std::nullopt,
       absl::StrCat("a dry run of `**.block7.weight`, whose prefix is empty, over ",
                    catalogue.Text(), "; one call at a time from one thread, index in the page "
                    "cache"),
       absl::StrCat(PrintSeconds(median), " of ", seconds.size(), " calls; ", matched,
                    " leaves match")});
  return absl::OkStatus();
}

absl::Status ListTensors(const BenchDaemon& daemon, int pages) {
  const auto stub = v1::CatalogService::NewStub(daemon.Channel());
  v1::ListTensorsRequest request;
  *request.mutable_selector() = SelectorOf(testing::LargeCheckpoint());
  request.set_page_size(1000);
  for (int i = 0; i < pages; ++i) {
    grpc::ClientContext context;
    v1::ListTensorsResponse page;
    CKPT_RETURN_IF_ERROR(FromGrpc(stub->ListTensors(&context, request, &page)));
    request.set_page_token(page.next_page_token());
    if (request.page_token().empty()) break;
  }
  return absl::OkStatus();
}

// Follows ListPageLine: all checkpoints have been listed.
absl::Status ResidentLine(Bench& bench, const Catalogue& catalogue) {
  bench.printer().Note("the daemon's memory");
  const BenchDaemon& daemon = *catalogue.daemon;
  const auto stub = v1::RestoreService::NewStub(daemon.Channel());
  std::vector<std::string> readings;
  double most = 0;
  const auto read = [&](absl::string_view after) -> absl::Status {
    CKPT_RETURN_IF_ERROR(CheckInterrupt());
    CKPT_ASSIGN_OR_RETURN(const uint64_t bytes, daemon.ResidentBytes());
    const double mib = static_cast<double>(bytes) / (1 << 20);
    most = std::max(most, mib);
    readings.push_back(absl::StrFormat("%.1f MiB after %s", mib, after));
    return absl::OkStatus();
  };
  CKPT_RETURN_IF_ERROR(read("listing all checkpoints"));
  CKPT_RETURN_IF_ERROR(ListTensors(daemon, 5));
  CKPT_RETURN_IF_ERROR(StreamPlan(*stub, "model.layers.12?.**", true).status());
  CKPT_RETURN_IF_ERROR(StreamPlan(*stub, "**.block7.weight", true).status());
  CKPT_RETURN_IF_ERROR(read("pages of tensors and two globs"));
  for (int i = 0; i < 2; ++i) CKPT_RETURN_IF_ERROR(StreamPlan(*stub, "", false).status());
  CKPT_RETURN_IF_ERROR(read("two plans of every tensor, both open"));
  bench.printer().Print(
      {"resident", most, "MiB", "nothing", Bar{kResidentMiB, false},
       absl::StrCat("RssAnon and RssFile of the daemon, so without the memory tier; ",
                    catalogue.Text(), "; calls from one thread, one at a time"),
       absl::StrCat(readings[0], ", ", readings[1], ", ", readings[2])});
  return absl::OkStatus();
}

}  // namespace

absl::Status CatalogueRow(Bench& bench) {
  bench.printer().Note("making the catalogue");
  CKPT_ASSIGN_OR_RETURN(Catalogue catalogue, Make(bench));
  CKPT_RETURN_IF_ERROR(FirstTensorLine(bench, catalogue));
  CKPT_RETURN_IF_ERROR(GlobThroughDaemonLine(bench, catalogue));
  CKPT_RETURN_IF_ERROR(catalogue.daemon->Restart(/*forget_memory=*/true));
  CKPT_RETURN_IF_ERROR(ListPageLine(bench, catalogue));
  return ResidentLine(bench, catalogue);
}

}  // namespace ckpt::bench
