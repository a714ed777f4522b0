// test_rank SOCKET: a trainer's rank that does what its stdin says (rank_process.h). It uses the
// client library as a trainer would, and nothing else.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "nlohmann/json.hpp"
#include "tests/fixtures/process.h"
#include "tests/fixtures/test_state.h"

namespace ckpt::testing {
namespace {

using Json = nlohmann::json;

// A copy that stops on its way, so that a test can kill or stop this process just there.
struct Hold {
  std::atomic<bool> reached{false};
  std::atomic<bool> released{false};
};

template <typename Condition>
void AwaitCondition(Condition condition) {
  while (!condition()) absl::SleepFor(absl::Milliseconds(1));
}

class Rank {
 public:
  explicit Rank(std::string socket) : socket_(std::move(socket)) {}
  absl::Status Do(const Json& command, Json& answer);

 private:
  absl::Status Connect();
  absl::Status Save(const Json& command);
  absl::Status Restore(const Json& command, Json& answer);
  absl::Status Spoil(bool truncate, Json& answer);
  absl::Status UseInFork(Json& answer);

  const std::string socket_;
  std::unique_ptr<Client> client_;
  std::optional<SaveHandle> save_;
  std::shared_ptr<Hold> hold_;
};

TestState StateOf(const Json& command) {
  const auto seed = command["seed"].get<uint64_t>();
  const auto bytes = command["bytes"].get<uint64_t>();
  return command["plain"].get<bool>() ? TestState::Plain(seed, bytes)
                                      : TestState::Mixed(seed, bytes);
}

absl::Status Rank::Connect() {
  absl::StatusOr<std::unique_ptr<Client>> client =
      Client::Connect({.socket = socket_, .name = "test_rank"});
  if (!client.ok()) return client.status();
  client_ = *std::move(client);
  return absl::OkStatus();
}

// The leaf's bytes come through `copy`, which stops at `hold_at`.
void HoldLeaf(PartLeaf& leaf, uint64_t hold_at, const std::shared_ptr<Hold>& hold) {
  const std::byte* data = leaf.data;
  leaf.data = nullptr;
  leaf.copy = [data, hold_at, hold](uint64_t begin, uint64_t bytes, std::byte* out) {
    const bool here = begin + bytes > hold_at;
    const uint64_t before = here && begin < hold_at ? hold_at - begin : 0;
    if (here) {
      std::memcpy(out, data + begin, before);
      hold->reached = true;
      AwaitCondition([&hold] { return hold->released.load(); });
    }
    std::memcpy(out + before, data + begin + before, bytes - before);
  };
}

absl::Status Rank::Save(const Json& command) {
  const absl::StatusOr<Incarnation> incarnation =
      Incarnation::FromHex(command["incarnation"].get<std::string>(), "incarnation");
  if (!incarnation.ok()) return incarnation.status();
  const CheckpointId id{command["run"].get<std::string>(), command["step"].get<uint64_t>(),
                        *incarnation};
  Part part = MakeTestPart(StateOf(command), command["rank"].get<uint32_t>(),
                           command["world_size"].get<uint32_t>());
  if (command["hold_at"].get<int64_t>() >= 0) {
    hold_ = std::make_shared<Hold>();
    HoldLeaf(part.leaves[0], command["hold_at"].get<uint64_t>(), hold_);
  }
  SaveOptions options;
  if (command["stream"].get<bool>()) options.transport = v1::TRANSPORT_STREAM;
  if (command["on_full"] == "ring") options.on_full = v1::ON_FULL_RING;
  if (command["on_full"] == "refuse") options.on_full = v1::ON_FULL_REFUSE;
  if (command["replace"].get<bool>()) options.if_exists = v1::IF_EXISTS_REPLACE;
  if (command["join_ms"].get<int64_t>() > 0) {
    options.join_deadline = absl::Milliseconds(command["join_ms"].get<int64_t>());
  }
  absl::StatusOr<SaveHandle> save = client_->Save(id, std::move(part), options);
  if (!save.ok()) return save.status();
  save_ = *std::move(save);
  return absl::OkStatus();
}

absl::Status Rank::Restore(const Json& command, Json& answer) {
  const absl::StatusOr<v1::Selector> selector =
      ParseSelector(command["selector"].get<std::string>());
  if (!selector.ok()) return selector.status();
  RestoreOptions options;
  options.stream = command["stream"].get<bool>();
  if (command.contains("together")) {  // with so many ranks of the launch
    const auto together = command["together"].get<uint32_t>();
    if (selector->latest()) {
      options.group.emplace().set_world_size(together);
      options.group->set_incarnation(
          Incarnation::FromHex(command["incarnation"].get<std::string>(), "incarnation")->bytes());
    } else {
      options.ranks_together = together;
    }
  }
  const uint64_t read_before = BytesReadFromDisk();
  absl::StatusOr<std::unique_ptr<RestorePlan>> plan = client_->PlanRestore(*selector, options);
  if (!plan.ok()) return plan.status();
  const absl::Status restored =
      CheckRestored(**plan, StateOf(command), command["rank"].get<uint32_t>(),
                    command["world_size"].get<uint32_t>());
  answer["bytes_read_from_disk"] = BytesReadFromDisk() - read_before;
  return restored;
}

// What a careless trainer may do to memory that it still has mapped: writes over every writable
// mapping of the memory tier, or truncates every descriptor of it.
absl::Status Rank::Spoil(bool truncate, Json& answer) {
  uint64_t bytes = 0;
  if (truncate) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code error;
      const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
      if (error || !absl::StartsWith(target, "/dev/shm/")) continue;
      if (ftruncate(std::stoi(entry.path().filename().string()), 0) == 0) ++bytes;
    }
    // The descriptor may be closed already while the mapping lives: by way of the mapping's file.
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/map_files")) {
      std::error_code error;
      const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
      if (error || !absl::StartsWith(target, "/dev/shm/")) continue;
      if (::truncate(entry.path().c_str(), 0) == 0) ++bytes;
    }
  } else {
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      unsigned long begin = 0;
      unsigned long end = 0;
      char permissions[5] = {};
      if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, permissions) != 3) continue;
      if (std::strcmp(permissions, "rw-s") != 0 || !absl::StrContains(line, "/dev/shm/")) continue;
      std::memset(reinterpret_cast<void*>(begin), 0xEE, end - begin);
      bytes += end - begin;
    }
  }
  answer["touched"] = bytes;
  return absl::OkStatus();
}

absl::Status Rank::UseInFork(Json& answer) {
  int report[2];
  if (pipe(report) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const pid_t child = fork();
  if (child == 0) {
    int codes[3];
    codes[0] = static_cast<int>(client_
                                    ->Save({"forked", 1, Incarnation::TimeOrdered()},
                                           MakeTestPart(TestState::Plain(1, 100), 0, 1), {})
                                    .status()
                                    .code());
    codes[1] = static_cast<int>(client_->GetCheckpoint(*ParseSelector("forked@1")).status().code());
    codes[2] =
        static_cast<int>(client_->PlanRestore(*ParseSelector("forked@1"), {}).status().code());
    if (write(report[1], codes, sizeof(codes)) != sizeof(codes)) _exit(1);
    _exit(0);
  }
  int codes[3] = {-1, -1, -1};
  const bool told = read(report[0], codes, sizeof(codes)) == sizeof(codes);
  close(report[0]);
  close(report[1]);
  int status = 0;
  waitpid(child, &status, 0);
  answer["child_codes"] = std::vector<int>(codes, codes + 3);
  answer["child_status"] = told ? status : -1;
  return absl::OkStatus();
}

absl::Status Rank::Do(const Json& command, Json& answer) {
  const auto what = command["do"].get<std::string>();
  if (what == "connect") return Connect();
  if (what == "save") return Save(command);
  if (what == "restore") return Restore(command, answer);
  if (what == "scribble") return Spoil(false, answer);
  if (what == "truncate") return Spoil(true, answer);
  if (what == "fork") return UseInFork(answer);
  if (what == "fork_sleeper") {  // a child that lives on with whatever it inherited
    const pid_t child = fork();
    if (child == 0) {
      for (;;) pause();
    }
    answer["child"] = child;
    return absl::OkStatus();
  }
  if (!save_) return absl::FailedPreconditionError("nothing was saved");
  const absl::Duration timeout = absl::Milliseconds(command.value("timeout_ms", int64_t{60000}));
  if (what == "staged") return save_->AwaitStaged(timeout);
  if (what == "committed") return save_->AwaitCommitted(timeout);
  if (what == "release") hold_->released = true;
  if (what == "await_held") {
    AwaitCondition([this] { return hold_->reached.load() || !save_->status().ok(); });
    return save_->status();
  }
  return what == "release" ? absl::OkStatus()
                           : absl::InvalidArgumentError(absl::StrCat("no command ", what));
}

}  // namespace
}  // namespace ckpt::testing

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  ckpt::testing::Rank rank(argv[1]);
  for (std::string line; std::getline(std::cin, line);) {
    nlohmann::json answer;
    const absl::Status status = rank.Do(nlohmann::json::parse(line), answer);
    answer["code"] = static_cast<int>(status.code());
    answer["message"] = std::string(status.message());
    std::cout << answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
  }
  return 0;
}
