// Settings: where they come from, which one wins, and what is refused with which reason.
#include "server/config.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/ascii.h"
#include "common/retention_policy.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/daemon/folders.h"
#include "server/settings.h"
#include "tests/fixtures/daemon.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Refusal(const ConfigSources& sources) {
  const absl::StatusOr<CommandLine> read = ReadConfig(sources);
  if (read.ok()) return "(accepted)";
  EXPECT_TRUE(absl::IsInvalidArgument(read.status())) << read.status();
  return std::string(read.status().message());
}

Config Accepted(const ConfigSources& sources) {
  absl::StatusOr<CommandLine> read = ReadConfig(sources);
  EXPECT_TRUE(read.ok()) << read.status();
  return read.ok() ? read->config : Config();
}

TEST(ConfigTest, DefaultsStandAlone) {
  const Config config = Accepted({});
  EXPECT_EQ(config.socket, "/run/ckptd/ckptd.sock");
  EXPECT_EQ(config.socket_mode, 0660u);
  EXPECT_EQ(config.join_deadline, absl::Minutes(10));
  EXPECT_EQ(config.grace, absl::Seconds(30));
  EXPECT_TRUE(config.listen.empty());
  EXPECT_THAT(config.memory_dir, HasSubstr("/dev/shm/ckptd-"));
}

TEST(ConfigTest, FlagsTakeValuesWithAndWithoutEqualsSign) {
  const Config config = Accepted({.arguments = {"--memory-budget", "4GiB", "--grace=1m30s",
                                                "--socket-mode", "0600", "--log-format=json"}});
  EXPECT_EQ(config.memory_budget, uint64_t{4} << 30);
  EXPECT_EQ(config.grace, absl::Seconds(90));
  EXPECT_EQ(config.socket_mode, 0600u);
  EXPECT_EQ(config.log_format, observe::LineFormat::kJson);
}

TEST(ConfigTest, RetentionRulesAreSettings) {
  const Config config = Accepted({.arguments = {"--keep-last=3", "--keep-best=eval/loss:min:2"},
                                  .environment = {"CKPTD_MAX_AGE=30d", "CKPTD_KEEP_LAST=9"}});
  EXPECT_EQ(config.retention.keep_last(), 3u);
  EXPECT_EQ(config.retention.keep_best().metric(), "eval/loss");
  EXPECT_EQ(config.retention.max_age().seconds(), 30 * 86400);
  EXPECT_EQ(config.retention.max_bytes(), 0u);
  EXPECT_THAT(Refusal({.arguments = {"--keep-every=0"}}),
              AllOf(HasSubstr("--keep-every"), HasSubstr("a number from 1")));
  EXPECT_THAT(Refusal({.environment = {"CKPTD_MAX_BYTES=much"}}), HasSubstr("CKPTD_MAX_BYTES"));
}

TEST(ConfigTest, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  testing::ScratchFolder scratch;
  std::ofstream(scratch / "ckptd.conf") << "# what this node has\n"
                                           "memory-budget = 1GiB\n"
                                           "  grace=5s  \n"
                                           "\n"
                                           "join-deadline = 20s\r\n";
  const Config config =
      Accepted({.arguments = {"--config", scratch / "ckptd.conf", "--memory-budget=3GiB"},
                .environment = {"CKPTD_MEMORY_BUDGET=2GiB", "CKPTD_GRACE=7s", "HOME=/root"}});
  EXPECT_EQ(config.memory_budget, uint64_t{3} << 30);
  EXPECT_EQ(config.grace, absl::Seconds(7));
  EXPECT_EQ(config.join_deadline, absl::Seconds(20));
  EXPECT_EQ(config.writer_threads, 4u);
}

TEST(ConfigTest, FileMayBeNamedByTheEnvironment) {
  testing::ScratchFolder scratch;
  std::ofstream(scratch / "ckptd.conf") << "writer-threads = 7\n";
  EXPECT_EQ(Accepted({.environment = {"CKPTD_CONFIG=" + scratch / "ckptd.conf"}}).writer_threads,
            7u);
}

TEST(ConfigTest, UnknownFlagIsRefusedWithANearOne) {
  EXPECT_THAT(Refusal({.arguments = {"--memory-bugdet=1GiB"}}),
              AllOf(HasSubstr("unknown flag --memory-bugdet"), HasSubstr("--memory-budget")));
  EXPECT_THAT(Refusal({.arguments = {"serve"}}), HasSubstr("unexpected argument 'serve'"));
  EXPECT_THAT(Refusal({.arguments = {"--"}}), HasSubstr("unexpected argument"));
  EXPECT_THAT(Refusal({.arguments = {"--grace"}}), HasSubstr("--grace needs a value"));
}

TEST(ConfigTest, NonsenseValuesAreRefusedWithWhereAndWhat) {
  EXPECT_THAT(Refusal({.arguments = {"--memory-budget=lots"}}),
              AllOf(HasSubstr("--memory-budget"), HasSubstr("lots")));
  EXPECT_THAT(Refusal({.arguments = {"--memory-budget=1KiB"}}), HasSubstr("1MiB"));
  EXPECT_THAT(Refusal({.environment = {"CKPTD_GRACE=30"}}),
              AllOf(HasSubstr("CKPTD_GRACE"), HasSubstr("30s")));
  EXPECT_THAT(Refusal({.arguments = {"--grace=-1s"}}), HasSubstr("--grace"));
  EXPECT_THAT(Refusal({.arguments = {"--drain-deadline=inf"}}), HasSubstr("--drain-deadline"));
  EXPECT_THAT(Refusal({.arguments = {"--socket-mode=0999"}}), HasSubstr("octal"));
  EXPECT_THAT(Refusal({.arguments = {"--socket-mode=0066"}}), HasSubstr("owner"));
  EXPECT_THAT(Refusal({.arguments = {"--writer-threads=0"}}), HasSubstr("from 1 to 64"));
  EXPECT_THAT(Refusal({.arguments = {"--log-level=loud"}}), HasSubstr("warning"));
  EXPECT_THAT(Refusal({.arguments = {"--log-format="}}), HasSubstr("text or json"));
  EXPECT_THAT(Refusal({.arguments = {"--data-dir="}}), HasSubstr("--data-dir"));
  EXPECT_THAT(Refusal({.arguments = {"--data-dir=a\nb"}}), HasSubstr("control characters"));
  EXPECT_THAT(Refusal({.arguments = {"--socket=/tmp/" + std::string(200, 's')}}),
              HasSubstr("at most"));
  EXPECT_THAT(Refusal({.arguments = {"--allow-uid=root"}}),
              AllOf(HasSubstr("--allow-uid"), HasSubstr("1000,1001"), HasSubstr("root")));
  EXPECT_THAT(Refusal({.arguments = {"--allow-gid="}}), HasSubstr("--allow-gid"));
  EXPECT_THAT(Refusal({.arguments = {"--socket-rights=read,delete"}}),
              AllOf(HasSubstr("none"), HasSubstr("read, write and admin")));
  EXPECT_THAT(Refusal({.arguments = {"--insecure-tcp=maybe", "--listen=h:1"}}),
              HasSubstr("true or false"));
}

TEST(ConfigTest, ContradictionsAreRefused) {
  EXPECT_THAT(Refusal({.arguments = {"--listen=127.0.0.1:0"}}),
              AllOf(HasSubstr("--insecure-tcp"), HasSubstr("--tls-cert"), HasSubstr("--tls-key"),
                    HasSubstr("--tls-client-ca")));
  EXPECT_THAT(Refusal({.arguments = {"--tls-cert=/c", "--tls-key=/k", "--tls-client-ca=/a"}}),
              HasSubstr("without --listen"));
  EXPECT_THAT(Refusal({.arguments = {"--listen=h:1", "--tls-cert=/c", "--tls-client-ca=/a"}}),
              HasSubstr("--tls-cert and --tls-client-ca without --tls-key"));
  EXPECT_THAT(Refusal({.arguments = {"--listen=h:1", "--tls-cert=/c", "--tls-key=/k",
                                     "--tls-client-ca=/a", "--insecure-tcp"}}),
              HasSubstr("contradict"));
  EXPECT_THAT(Refusal({.arguments = {"--insecure-tcp"}}), HasSubstr("--listen"));
  EXPECT_THAT(Refusal({.arguments = {"--listen=7070", "--insecure-tcp"}}), HasSubstr("HOST:PORT"));
  EXPECT_THAT(Refusal({.arguments = {"--grace=1s", "--grace=2s"}}), HasSubstr("twice"));
  EXPECT_THAT(Refusal({.arguments = {"--data-dir=/a", "--memory-dir=/a/memory"}}),
              HasSubstr("in one another"));
  EXPECT_THAT(Refusal({.arguments = {"--data-dir=/a", "--socket=/a/s.sock"}}),
              HasSubstr("must not lie in the data"));
}

TEST(ConfigTest, FileErrorsNameTheLine) {
  testing::ScratchFolder scratch;
  const std::string path = scratch / "bad.conf";
  std::ofstream(path) << "grace = 1s\nnot a setting\n";
  EXPECT_THAT(Refusal({.arguments = {"--config=" + path}}), HasSubstr(path + ":2"));
  std::ofstream(path) << "\n\ncolour = blue\n";
  EXPECT_THAT(Refusal({.arguments = {"--config=" + path}}),
              AllOf(HasSubstr(path + ":3"), HasSubstr("colour")));
  std::ofstream(path) << "grace = never\n";
  EXPECT_THAT(Refusal({.arguments = {"--config=" + path}}),
              AllOf(HasSubstr(path + ":1"), HasSubstr("never")));
  EXPECT_THAT(Refusal({.arguments = {"--config=" + scratch / "absent.conf"}}),
              HasSubstr("cannot be read"));
}

TEST(ConfigTest, UnknownEnvironmentVariablesAreNotedNotRefused) {
  // What Kubernetes puts into each pod where a service is named ckptd.
  const auto read = ReadConfig({.environment = {"CKPTD_PORT=tcp://10.0.0.1:80"}});
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->notes.size(), 1u);
  EXPECT_THAT(read->notes[0], HasSubstr("CKPTD_PORT"));
}

TEST(ConfigTest, AMisspeltEnvironmentVariableIsRefused) {
  EXPECT_THAT(Refusal({.environment = {"CKPTD_MEMROY_BUDGET=4GiB"}}),
              AllOf(HasSubstr("CKPTD_MEMROY_BUDGET"), HasSubstr("mean CKPTD_MEMORY_BUDGET?")));
  // The clients' own are none of these.
  EXPECT_TRUE(ReadConfig({.environment = {"CKPTD_TOKEN=a"}}).ok());
}

TEST(ConfigTest, HelpAndVersionWin) {
  EXPECT_EQ(ReadConfig({.arguments = {"--help"}})->action, CommandLine::Action::kHelp);
  EXPECT_EQ(ReadConfig({.arguments = {"--grace=1s", "--version"}})->action,
            CommandLine::Action::kVersion);
  for (const char* name : {"--config", "--help", "--version", "CKPTD_CONFIG"}) {
    EXPECT_THAT(HelpText(), HasSubstr(name));
  }
}

// Every row of the table of settings, each of the three ways to set it.

void ExpectTcp(Config& config) {
  config.listen = "127.0.0.1:7070";
  config.insecure_tcp = true;
}

void ExpectTls(Config& config) {
  config.listen = "127.0.0.1:7070";
  config.tls_cert = "/c";
  config.tls_key = "/k";
  config.tls_client_ca = "/a";
}

struct Sample {
  const char* value;               // another than the default
  void (*expect)(Config& config);  // what becomes of the defaults
  // What it means nothing without.
  std::vector<std::string> other_flags = {};
};

const std::map<std::string, Sample>& Samples() {
  static const auto* samples = new std::map<std::string, Sample>{
      {"socket",
       {"/tmp/ckptd-sample/s.sock", [](Config& c) { c.socket = "/tmp/ckptd-sample/s.sock"; }}},
      {"socket-mode", {"0600", [](Config& c) { c.socket_mode = 0600; }}},
      {"listen", {"127.0.0.1:7070", &ExpectTcp, {"--insecure-tcp"}}},
      {"insecure-tcp", {"true", &ExpectTcp, {"--listen=127.0.0.1:7070"}}},
      {"tls-cert",
       {"/c",
        &ExpectTls,
        {"--listen=127.0.0.1:7070", "--tls-key=/k", "--tls-client-ca=/a"}}},
      {"tls-key",
       {"/k",
        &ExpectTls,
        {"--listen=127.0.0.1:7070", "--tls-cert=/c", "--tls-client-ca=/a"}}},
      {"tls-client-ca",
       {"/a", &ExpectTls, {"--listen=127.0.0.1:7070", "--tls-cert=/c", "--tls-key=/k"}}},
      {"session-max", {"17", [](Config& c) { c.sessions_max = 17; }}},
      {"allow-uid", {"1000,7", [](Config& c) { c.allow_uids = {1000, 7}; }}},
      {"allow-gid", {"44", [](Config& c) { c.allow_gids = {44}; }}},
      {"socket-rights", {"none", [](Config& c) { c.socket_rights = std::nullopt; }}},
      {"token-file", {"/etc/sample", [](Config& c) { c.token_file = "/etc/sample"; }}},
      {"data-dir",
       {"/srv/sample",
        [](Config& c) {
          c.data_dir = "/srv/sample";
          c.memory_dir = DefaultMemoryFolder("/srv/sample");
        }}},
      {"memory-dir", {"/dev/shm/sample", [](Config& c) { c.memory_dir = "/dev/shm/sample"; }}},
      {"memory-budget", {"3GiB", [](Config& c) { c.memory_budget = uint64_t{3} << 30; }}},
      {"writer-threads", {"9", [](Config& c) { c.writer_threads = 9; }}},
      {"scrub-rate", {"5MiB", [](Config& c) { c.scrub_rate = 5 << 20; }}},
      {"scrub-interval", {"48h", [](Config& c) { c.scrub_interval = absl::Hours(48); }}},
      {"keep-last", {"3", [](Config& c) { c.retention.set_keep_last(3); }}},
      {"keep-every", {"1000", [](Config& c) { c.retention.set_keep_every(1000); }}},
      {"keep-best",
       {"loss:max:2",
        [](Config& c) {
          v1::KeepBest& best = *c.retention.mutable_keep_best();
          best.set_metric("loss");
          best.set_direction(v1::KeepBest::DIRECTION_MAX);
          best.set_count(2);
        }}},
      {"max-bytes", {"4KiB", [](Config& c) { c.retention.set_max_bytes(4096); }}},
      {"max-age", {"90s", [](Config& c) { c.retention.mutable_max_age()->set_seconds(90); }}},
      {"retention-file", {"/etc/sample", [](Config& c) { c.retention_file = "/etc/sample"; }}},
      {"quota-file", {"/etc/sample", [](Config& c) { c.quota_file = "/etc/sample"; }}},
      {"join-deadline", {"11m", [](Config& c) { c.join_deadline = absl::Minutes(11); }}},
      {"grace", {"12s", [](Config& c) { c.grace = absl::Seconds(12); }}},
      {"save-lifetime", {"15m", [](Config& c) { c.save_lifetime = absl::Minutes(15); }}},
      {"drain-deadline", {"13s", [](Config& c) { c.drain_deadline = absl::Seconds(13); }}},
      {"log-format", {"json", [](Config& c) { c.log_format = observe::LineFormat::kJson; }}},
      {"log-level", {"debug", [](Config& c) { c.log_level = observe::Severity::kDebug; }}},
      {"persist-delay", {"14s", [](Config& c) { c.persist_delay = absl::Seconds(14); }}},
      {"hash-blocks", {"false", [](Config& c) { c.hash_blocks = false; }}},
  };
  return *samples;
}

// All fields, for comparing: one that is new does not compile until it stands here.
auto Fields(const Config& config) {
  const auto& [socket, socket_mode, listen, insecure_tcp, tls_cert, tls_key, tls_client_ca,
               sessions_max, allow_uids, allow_gids, socket_rights, token_file, data_dir,
               memory_dir, memory_budget, writer_threads, scrub_rate, scrub_interval, retention,
               retention_file, quota_file, join_deadline, grace, save_lifetime, drain_deadline,
               persist_delay, hash_blocks, log_format, log_level] = config;
  return std::make_tuple(socket, socket_mode, listen, insecure_tcp, tls_cert, tls_key,
                         tls_client_ca, sessions_max, allow_uids, allow_gids, socket_rights,
                         token_file, data_dir, memory_dir, memory_budget, writer_threads,
                         scrub_rate, scrub_interval, PrintRetentionPolicy(retention),
                         retention_file, quota_file, join_deadline, grace, save_lifetime,
                         drain_deadline, persist_delay, hash_blocks, static_cast<int>(log_format),
                         static_cast<int>(log_level));
}

class EverySetting : public ::testing::TestWithParam<std::string> {
 protected:
  std::string Variable() const {
    std::string variable = "CKPTD_" + GetParam();
    for (char& c : variable) c = c == '-' ? '_' : absl::ascii_toupper(c);
    return variable;
  }
};

TEST_P(EverySetting, MeansTheSameAsFlagInTheEnvironmentAndInTheFile) {
  ASSERT_TRUE(Samples().contains(GetParam())) << "a new setting: give it a sample";
  const auto [value, expect, other_flags] = Samples().at(GetParam());
  const ConfigSources others = {.arguments = other_flags};
  ConfigSources flag = others;
  flag.arguments.push_back("--" + GetParam() + "=" + value);
  ConfigSources two_words = others;
  two_words.arguments.push_back("--" + GetParam());
  if (*FindSetting(GetParam())->value != '\0') two_words.arguments.push_back(value);
  ConfigSources environment = others;
  environment.environment = {Variable() + "=" + value};
  testing::ScratchFolder scratch;
  std::ofstream(scratch / "ckptd.conf") << GetParam() << " = " << value << "\n";
  ConfigSources file = others;
  file.arguments.push_back("--config=" + scratch / "ckptd.conf");

  Config expected = Accepted({});
  expect(expected);
  EXPECT_NE(Fields(expected), Fields(Accepted({}))) << "the sample is the default";
  for (const ConfigSources& sources : {flag, two_words, environment, file}) {
    EXPECT_EQ(Fields(Accepted(sources)), Fields(expected));
  }
}

TEST_P(EverySetting, StandsInTheHelpWithItsTwin) {
  const Setting* setting = FindSetting(GetParam());
  const std::string value = *setting->value == '\0' ? "" : std::string(" ") + setting->value;
  EXPECT_THAT(HelpText(), HasSubstr("\n  --" + GetParam() + value + " "));
  EXPECT_THAT(HelpText(),
              HasSubstr(std::string("[") + setting->fallback + "; " + Variable() + "]\n"));
  EXPECT_THAT(HelpText(), HasSubstr(setting->help));
}

std::vector<std::string> SettingNames() {
  std::vector<std::string> names;
  for (const Setting& setting : Settings()) names.push_back(setting.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Settings, EverySetting, ::testing::ValuesIn(SettingNames()),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(ConfigTest, MemoryFolderFollowsFromTheDataFolder) {
  EXPECT_EQ(DefaultMemoryFolder("/a"), DefaultMemoryFolder("/a"));
  EXPECT_NE(DefaultMemoryFolder("/a"), DefaultMemoryFolder("/b"));
}

class FoldersTest : public ::testing::Test {
 protected:
  FoldersTest() {
    config_.socket = scratch_ / "s/ckptd.sock";
    config_.data_dir = scratch_ / "data";
    config_.memory_dir = "/dev/shm/ckptd-folders-test-" + std::to_string(::getpid());
    config_.memory_budget = 1 << 20;
  }
  ~FoldersTest() override { ::rmdir(config_.memory_dir.c_str()); }

  std::string Refusal() {
    MadeFolders made;
    const absl::Status status = PrepareFolders(config_, made);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  }

  testing::ScratchFolder scratch_;
  Config config_;
};

TEST_F(FoldersTest, MissingFoldersAreMade) {
  MadeFolders made;
  const absl::Status status = PrepareFolders(config_, made);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(::access(config_.data_dir.c_str(), F_OK), 0);
}

TEST_F(FoldersTest, UnwritableDataFolderIsRefused) {
  config_.data_dir = "/proc/ckptd-data";  // not even root can make it
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("--data-dir"), HasSubstr("/proc/ckptd-data")));
}

TEST_F(FoldersTest, AFileInTheWayIsRefused) {
  std::ofstream(scratch_ / "data") << "a file";
  EXPECT_THAT(Refusal(), HasSubstr("--data-dir"));
}

TEST_F(FoldersTest, MemoryFolderOnADiskIsRefused) {
  config_.memory_dir = scratch_ / "memory";
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("--memory-dir"), HasSubstr("tmpfs")));
}

// /dev/shm is everybody's: a folder under the expected name may be somebody's trap.
TEST_F(FoldersTest, SomebodyElsesMemoryFolderIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  ASSERT_EQ(::mkdir(config_.memory_dir.c_str(), 0777), 0);
  ASSERT_EQ(::chown(config_.memory_dir.c_str(), 65534, 65534), 0);
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("--memory-dir"), HasSubstr("uid 65534")));
}

TEST_F(FoldersTest, ARefusedStartLeavesNoFolderThatItMade) {
  std::filesystem::create_directory(scratch_ / "there");
  for (const char* folder : {"new", "one/in/another", "there/new"}) {
    config_.memory_dir = scratch_ / folder;
    EXPECT_THAT(Refusal(), HasSubstr("tmpfs"));
  }
  config_.socket = scratch_ / "sockets/ckptd.sock";
  EXPECT_THAT(Refusal(), HasSubstr("tmpfs"));
  for (const char* folder : {"new", "one", "there/new", "sockets"}) {
    EXPECT_FALSE(std::filesystem::exists(scratch_ / folder)) << folder;
  }
  EXPECT_TRUE(std::filesystem::exists(scratch_ / "there")) << "it was there before";
}

TEST_F(FoldersTest, BudgetLargerThanTheTmpfsIsRefused) {
  config_.memory_budget = uint64_t{1} << 50;
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("--memory-budget"), HasSubstr("can hold")));
}

TEST_F(FoldersTest, BudgetThatNobodySetFits) {
  config_.memory_budget = 0;
  MadeFolders made;
  ASSERT_TRUE(PrepareFolders(config_, made).ok());
  EXPECT_GE(config_.memory_budget, 1u << 20);
}

}  // namespace
}  // namespace ckpt
