#include "tests/benchmark/bench_daemon.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "common/byte_size.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/fixtures/process.h"

namespace ckpt::bench {
namespace {

namespace fs = std::filesystem;

absl::StatusOr<std::string> MakeFolder(const std::string& parent) {
  std::string path = absl::StrCat(parent, "/ckpt_bench-XXXXXX");
  if (mkdtemp(path.data()) == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make a folder in ", parent, ": ", std::strerror(errno)));
  }
  return path;
}

bool IsTmpfs(const std::string& path) {
  struct statfs info = {};
  return statfs(path.c_str(), &info) == 0 && info.f_type == TMPFS_MAGIC;
}

std::vector<std::string> FilesWith(const std::string& folder, absl::string_view ending) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::recursive_directory_iterator walk(folder, error), end; walk != end;
       walk.increment(error)) {
    if (error) break;
    if (absl::EndsWith(walk->path().string(), ending)) files.push_back(walk->path().string());
  }
  return files;
}

// Clock ticks that a process has spent on processors.
absl::StatusOr<uint64_t> ProcessorTicks(pid_t pid) {
  const std::string stat = testing::ReadWholeFile(absl::StrCat("/proc/", pid, "/stat"));
  // After the name, which ends with the last bracket: state is field 3; user and system 14 and 15.
  const std::vector<std::string> words =
      absl::StrSplit(stat.substr(std::min(stat.size(), stat.rfind(')') + 2)), ' ');
  uint64_t user = 0;
  uint64_t system = 0;
  if (words.size() < 13 || !absl::SimpleAtoi(words[11], &user) ||
      !absl::SimpleAtoi(words[12], &system)) {
    return absl::InternalError("the daemon's processor time cannot be read");
  }
  return user + system;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BenchDaemon>> BenchDaemon::Start(const Options& options) {
  return StartWith(options, {});
}

absl::StatusOr<std::unique_ptr<BenchDaemon>> BenchDaemon::StartWith(
    const Options& options, std::vector<std::string> flags) {
  CKPT_ASSIGN_OR_RETURN(std::unique_ptr<BenchDaemon> daemon, MakeFolders(options));
  daemon->flags_ = std::move(flags);
  CKPT_RETURN_IF_ERROR(daemon->Spawn());
  return daemon;
}

absl::StatusOr<std::unique_ptr<BenchDaemon>> BenchDaemon::StartOn(
    const Options& options, absl::FunctionRef<absl::Status(const std::string& data_folder)> fill) {
  CKPT_ASSIGN_OR_RETURN(std::unique_ptr<BenchDaemon> daemon, MakeFolders(options));
  CKPT_RETURN_IF_ERROR(fill(daemon->data_folder_));
  CKPT_RETURN_IF_ERROR(daemon->Spawn());
  return daemon;
}

absl::StatusOr<std::unique_ptr<BenchDaemon>> BenchDaemon::MakeFolders(const Options& options) {
  std::error_code error;
  if (!fs::exists(options.ckptd, error)) {
    return absl::NotFoundError(
        absl::StrCat("no daemon at ", options.ckptd, "; build the target ckptd or give --ckptd"));
  }
  const std::string disk = fs::canonical(options.data_dir, error).string();
  if (error)
    return absl::NotFoundError(
        absl::StrCat("--data-dir ", options.data_dir, ": ", error.message()));
  if (IsTmpfs(disk)) {
    return absl::InvalidArgumentError(
        absl::StrCat(disk, " is a tmpfs: give a folder on the disk to measure with --data-dir"));
  }
  if (!IsTmpfs(options.memory_dir)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--memory-dir ", options.memory_dir, " is no tmpfs"));
  }
  std::unique_ptr<BenchDaemon> daemon(new BenchDaemon());
  daemon->ckptd_ = options.ckptd;
  // Two parts in flight, and room for a third where one waits for its deletion.
  daemon->memory_budget_ = absl::StrCat(3 * options.state_bytes + (uint64_t{256} << 20));
  CKPT_ASSIGN_OR_RETURN(daemon->disk_folder_, MakeFolder(disk));
  CKPT_ASSIGN_OR_RETURN(daemon->memory_folder_, MakeFolder(options.memory_dir));
  CKPT_ASSIGN_OR_RETURN(daemon->socket_folder_, MakeFolder("/tmp"));  // socket paths are short
  daemon->data_folder_ = absl::StrCat(daemon->disk_folder_, "/data");
  daemon->socket_ = absl::StrCat(daemon->socket_folder_, "/s");
  return daemon;
}

BenchDaemon::~BenchDaemon() {
  if (pid_ != 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  for (const std::string& folder : {disk_folder_, memory_folder_, socket_folder_}) {
    if (!folder.empty()) fs::remove_all(folder, ignored);
  }
}

absl::Status BenchDaemon::Spawn() {
  testing::SpawnOptions spawn;
  spawn.arguments = {ckptd_,         "--socket",     socket_,        "--data-dir",
                     data_folder_,   "--memory-dir", memory_folder_, "--memory-budget",
                     memory_budget_, "--log-level",  "warning"};
  spawn.arguments.insert(spawn.arguments.end(), flags_.begin(), flags_.end());
  spawn.errors = absl::StrCat(disk_folder_, "/ckptd.log");
  spawn.output = spawn.errors;
  CKPT_ASSIGN_OR_RETURN(pid_, testing::Spawn(spawn));
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (true) {
    const absl::Status status = Connect().status();
    if (status.ok()) return status;
    if (absl::Now() > deadline || waitpid(pid_, nullptr, WNOHANG) != 0) {
      if (absl::Now() <= deadline) pid_ = 0;
      return absl::UnavailableError(
          absl::StrCat("ckptd did not start: ", testing::ReadWholeFile(spawn.errors)));
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
}

absl::Status BenchDaemon::Stop() {
  kill(pid_, SIGTERM);
  CKPT_ASSIGN_OR_RETURN(const int exit_status, testing::AwaitProcess(pid_, absl::Minutes(2)));
  pid_ = 0;
  if (exit_status == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("ckptd ended with ", exit_status));
}

absl::Status BenchDaemon::Restart(bool forget_memory) {
  CKPT_RETURN_IF_ERROR(Stop());
  if (forget_memory) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(memory_folder_, ignored)) {
      fs::remove_all(entry.path(), ignored);
    }
  }
  return Spawn();
}

absl::StatusOr<std::unique_ptr<Client>> BenchDaemon::Connect() const {
  ClientOptions options;
  options.socket = socket_;
  options.name = "ckpt_bench";
  options.connect_timeout = absl::Seconds(5);
  return Client::Connect(std::move(options));
}

std::shared_ptr<grpc::Channel> BenchDaemon::Channel() const {
  return grpc::CreateChannel(absl::StrCat("unix:", socket_), grpc::InsecureChannelCredentials());
}

absl::StatusOr<uint64_t> BenchDaemon::ResidentBytes() const {
  std::ifstream status(absl::StrCat("/proc/", pid_, "/status"));
  uint64_t bytes = 0;
  for (std::string word; status >> word;) {
    uint64_t kilobytes = 0;
    if (word != "RssAnon:" && word != "RssFile:") continue;
    status >> kilobytes;
    bytes += kilobytes << 10;
  }
  if (bytes == 0) return absl::InternalError("the daemon's memory cannot be read");
  return bytes;
}

absl::StatusOr<double> BenchDaemon::ProcessorSeconds() const {
  CKPT_ASSIGN_OR_RETURN(const uint64_t ticks, ProcessorTicks(pid_));
  return static_cast<double>(ticks) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

absl::Status BenchDaemon::AwaitIdle() const {
  constexpr absl::Duration kPoll = absl::Milliseconds(100);
  constexpr int kIdlePolls = 3;
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  uint64_t before = 0;
  for (int idle = 0; idle < kIdlePolls;) {
    if (absl::Now() > deadline) return absl::DeadlineExceededError("the daemon does not rest");
    CKPT_ASSIGN_OR_RETURN(const uint64_t ticks, ProcessorTicks(pid_));
    idle = ticks == before ? idle + 1 : 0;
    before = ticks;
    absl::SleepFor(kPoll);
  }
  return CheckInterrupt();
}

absl::Status BenchDaemon::Delete(const CheckpointId& id) {
  const auto stub = v1::CatalogService::NewStub(Channel());
  grpc::ClientContext context;
  v1::DeleteCheckpointRequest request;
  v1::DeleteCheckpointResponse response;
  v1::Selector* selector = request.mutable_selector();
  selector->set_run(id.run);
  selector->set_step(id.step);
  const grpc::Status status = stub->DeleteCheckpoint(&context, request, &response);
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

std::vector<std::string> BenchDaemon::DataFiles() const {
  return FilesWith(data_folder_, ".safetensors");
}

std::vector<std::string> BenchDaemon::IndexFiles() const { return FilesWith(data_folder_, ".sst"); }

}  // namespace ckpt::bench
