// ckptctl as people and scripts use it: the real binary against the real daemon.
#ifndef CKPT_TESTS_CLI_CKPTCTL_FIXTURE_H_
#define CKPT_TESTS_CLI_CKPTCTL_FIXTURE_H_

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/safetensors.h"
#include "nlohmann/json.hpp"
#include "tests/fixtures/process.h"
#include "tests/integration/integration_test.h"

namespace ckpt::testing {

using Json = nlohmann::json;

// A terminal of the test's own: programs hold its far end, the test types and looks.
class Terminal {
 public:
  Terminal() : near_end_(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    if (near_end_ < 0 || grantpt(near_end_) != 0 || unlockpt(near_end_) != 0) return;
    far_end_ = open(ptsname(near_end_), O_RDWR | O_NOCTTY | O_CLOEXEC);
  }
  ~Terminal() {
    close(far_end_);
    close(near_end_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  int far_end() const { return far_end_; }  // -1: there are no terminals here
  bool Type(const std::string& text) {
    return write(near_end_, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  }
  // All that was printed on it, once its programs have ended.
  std::string Printed() {
    close(std::exchange(far_end_, -1));
    std::string text;
    char some[4096];
    for (ssize_t got; (got = read(near_end_, some, sizeof(some))) > 0;) text.append(some, got);
    return text;
  }

 private:
  const int near_end_;
  int far_end_ = -1;
};

class Ckptctl : public IntegrationTest {
 protected:
  CommandResult Run(std::vector<std::string> words, absl::Duration timeout = absl::Seconds(60)) {
    words.insert(words.begin(), BuiltBinary("ckptctl"));
    absl::StatusOr<CommandResult> result =
        RunCommand(words, {{"CKPTD_SOCKET", daemon().socket()}}, timeout);
    EXPECT_TRUE(result.ok()) << result.status();
    return *std::move(result);
  }
  // Where the daemon that --listen=127.0.0.1:0 was given listens.
  std::string TcpAddress() {
    CKPT_EXPECT_OK(daemon().AwaitLog("tcp_port="));
    const std::string log = daemon().Log();
    const size_t at = log.rfind("tcp_port=") + 9;
    return "127.0.0.1:" + log.substr(at, log.find_first_not_of("0123456789", at) - at);
  }
  Json RunJson(std::vector<std::string> words) {
    words.insert(words.end(), {"-o", "json"});
    const CommandResult result = Run(words);
    EXPECT_EQ(result.exit_status, 0) << result.errors;
    Json json = Json::parse(result.output, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << result.output;
    return json;
  }
  // Checks a safetensors file as any reader would: header, then the bytes of each tensor.
  void CheckFile(const std::string& path, const TestState& state,
                 std::map<std::string, std::string>& found) {
    const std::string bytes = ReadWholeFile(path);
    const auto region = SafetensorsRegionBytes(bytes.substr(0, 8), bytes.size());
    ASSERT_TRUE(region.ok()) << region.status();
    const auto header = ParseSafetensorsHeader(bytes.substr(0, *region), bytes.size());
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->metadata.at("format"), "pt");
    EXPECT_EQ(header->metadata.at("ckptd.step"), "100");
    for (const SafetensorsTensor& tensor : header->tensors) {
      found[tensor.name] = bytes.substr(*region + tensor.begin, tensor.end - tensor.begin);
    }
    EXPECT_FALSE(state.tensors.empty());
  }
  void CheckTensors(const TestState& state, uint32_t ranks,
                    const std::map<std::string, std::string>& found) {
    size_t expected = 0;
    for (const TestTensor& tensor : state.tensors) {
      const bool own = tensor.placement == v1::PLACEMENT_PER_RANK && ranks > 1;
      for (uint32_t rank = 0; rank < (own ? ranks : 1); ++rank) {
        const std::string name = own ? absl::StrCat(tensor.key, ".rank", rank) : tensor.key;
        ASSERT_TRUE(found.contains(name)) << name;
        EXPECT_TRUE(found.at(name) == TestBytes(state, tensor, rank, Box::Whole(tensor.shape)))
            << name << " differs";
        ++expected;
      }
    }
    EXPECT_EQ(found.size(), expected);
  }
  ScratchFolder folder_;
};

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CLI_CKPTCTL_FIXTURE_H_
