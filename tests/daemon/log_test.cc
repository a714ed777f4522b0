// Log lines: one line each, whatever a client's strings hold; JSON that any parser reads.
#include "server/observe/log.h"

#include <atomic>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/observe/line_budget.h"

namespace ckpt::observe {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kTime = absl::FromUnixMicros(1714564800123456);

std::string Line(LineFormat format, Fields fields) {
  return FormatLine(format, kTime, Severity::kInfo, "part staged", fields);
}

TEST(LogTest, TextIsReadable) {
  EXPECT_EQ(Line(LineFormat::kText, {{"run", "team/a"}, {"rank", 3}, {"full", true}}),
            "2024-05-01T12:00:00.123456Z I part staged run=team/a rank=3 full=true");
}

TEST(LogTest, TextQuotesWhatWouldMislead) {
  const std::string line =
      Line(LineFormat::kText, {{"run", std::string("a\nERROR all=lost\0\x1b[31m", 22)}});
  EXPECT_THAT(line, Not(HasSubstr("\n")));
  EXPECT_THAT(line, Not(HasSubstr("\x1b")));
  EXPECT_THAT(line, HasSubstr("run=\"a\\n"));
}

TEST(LogTest, JsonParsesWhateverTheBytes) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  for (const std::string& text :
       {all, std::string("\xF0\x9F\x98\x80 \xC3\xA9"), std::string("\xC3"),
        std::string("\xED\xA0\x80"), std::string("\xF5\x80\x80\x80"), std::string("\xE2\x82")}) {
    const std::string line = Line(LineFormat::kJson, {{"text", text}});
    EXPECT_THAT(line, Not(HasSubstr("\n")));
    const auto json = nlohmann::json::parse(line, nullptr, false);
    ASSERT_FALSE(json.is_discarded()) << line;
    EXPECT_EQ(json["event"], "part staged");
    EXPECT_TRUE(json["text"].is_string());
  }
}

TEST(LogTest, JsonKeepsTypes) {
  const auto json = nlohmann::json::parse(
      Line(LineFormat::kJson, {{"negative", -1},
                               {"large", std::numeric_limits<uint64_t>::max()},
                               {"real", 0.5},
                               {"nan", std::numeric_limits<double>::quiet_NaN()},
                               {"yes", true},
                               {"error", absl::NotFoundError("gone")}}));
  EXPECT_EQ(json["level"], "info");
  EXPECT_EQ(json["time"], "2024-05-01T12:00:00.123456Z");
  EXPECT_EQ(json["negative"], -1);
  EXPECT_EQ(json["large"], std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(json["real"], 0.5);
  EXPECT_TRUE(json["nan"].is_null());
  EXPECT_EQ(json["yes"], true);
  EXPECT_EQ(json["error"], "NOT_FOUND: gone");
}

TEST(LogTest, SeverityFiltersAndThreadsDoNotMixLines) {
  std::vector<std::string> lines;
  ConfigureLog({.format = LineFormat::kJson,
                .minimum = Severity::kInfo,
                .sink = [&lines](const std::string& line) { lines.push_back(line); }});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 25; ++i) {
        Info("event", {{"thread", t}, {"number", i}});
        Debug("hidden");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ConfigureLog({});
  EXPECT_EQ(lines.size(), 100u);
  for (const std::string& line : lines) {
    EXPECT_FALSE(nlohmann::json::parse(line, nullptr, false).is_discarded()) << line;
    EXPECT_THAT(line, Not(HasSubstr("hidden")));
  }
}

class LogRateTest : public ::testing::Test {
 protected:
  LogRateTest() {
    ConfigureLog({.sink = [this](const std::string& line) { lines_.push_back(line); },
                  .clock = [this] { return absl::FromUnixMicros(now_us_.load()); }});
  }
  ~LogRateTest() override { ConfigureLog({}); }
  void Pass(absl::Duration time) { now_us_ += absl::ToInt64Microseconds(time); }
  // Lines that were written, and those that they say were left out.
  uint64_t Told() const {
    uint64_t told = lines_.size();
    for (const std::string& line : lines_) {
      const size_t at = line.find("left_out=");
      if (at != std::string::npos) told += std::stoull(line.substr(at + 9));
    }
    return told;
  }

  std::atomic<int64_t> now_us_{absl::ToUnixMicros(kTime)};
  std::vector<std::string> lines_;
};

TEST_F(LogRateTest, AFloodIsABurstAndThenAFewASecond) {
  for (int i = 0; i < 5000; ++i) Error("checkpoint is damaged", {{"number", i}});
  EXPECT_EQ(lines_.size(), 100u);
  lines_.clear();
  for (int second = 0; second < 60; ++second) {
    Pass(absl::Seconds(1));
    for (int i = 0; i < 100; ++i) Error("checkpoint is damaged");
  }
  EXPECT_EQ(lines_.size(), 600u);
}

TEST_F(LogRateTest, TheNextLineSaysWhatWasLeftOut) {
  for (int i = 0; i < 140; ++i) Error("checkpoint is damaged");
  for (const std::string& line : lines_) EXPECT_THAT(line, Not(HasSubstr("left_out")));
  Pass(absl::Hours(1));
  Error("checkpoint is damaged", {{"run", "r"}});
  EXPECT_THAT(lines_.back(), EndsWith("checkpoint is damaged run=r left_out=40"));
  Error("checkpoint is damaged");
  EXPECT_THAT(lines_.back(), EndsWith("checkpoint is damaged"));
}

TEST_F(LogRateTest, TheEndSaysWhatNoLineHasToldOfYet) {
  for (int i = 0; i < 140; ++i) Error("checkpoint is damaged");
  TellLeftOut();
  EXPECT_THAT(lines_.back(),
              EndsWith("lines were left out of=\"checkpoint is damaged\" left_out=40"));
  TellLeftOut();
  EXPECT_EQ(lines_.size(), 101u);
}

TEST_F(LogRateTest, AFloodHidesNoOtherEvent) {
  for (int i = 0; i < 5000; ++i) Warning("a process was refused");
  Error("a process was refused");  // an error is not hidden by warnings of the same text either
  Info("signal");
  EXPECT_THAT(lines_[lines_.size() - 2], HasSubstr(" E a process"));
  EXPECT_THAT(lines_.back(), EndsWith("signal"));
}

TEST_F(LogRateTest, ManyTextsAreBoundedTogether) {
  for (int i = 0; i < 5000; ++i) Info("event " + std::to_string(i));
  EXPECT_EQ(lines_.size(), kBucketsMax + kLinesBurst);
}

TEST_F(LogRateTest, AClockThatIsSetBackStopsNothing) {
  for (int i = 0; i < 200; ++i) Info("event");
  Pass(-absl::Hours(24));
  Info("event");
  EXPECT_EQ(lines_.size(), 100u);
  Pass(absl::Seconds(1));
  Info("event");
  EXPECT_THAT(lines_.back(), EndsWith("left_out=101"));
}

TEST_F(LogRateTest, EveryLineIsWrittenOrToldOfWhicheverThreadItIsOf) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 500; ++i) {
        Pass(absl::Microseconds(100));
        Info("event");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Pass(absl::Minutes(1));
  Info("event");
  EXPECT_EQ(Told(), 2001u);
  EXPECT_LE(lines_.size(), 103u);
}

TEST(LogTest, NamesOfLevelsAndFormats) {
  EXPECT_EQ(*ParseSeverity("warning"), Severity::kWarning);
  EXPECT_TRUE(absl::IsInvalidArgument(ParseSeverity("LOUD").status()));
  EXPECT_EQ(*ParseLineFormat("json"), LineFormat::kJson);
  EXPECT_TRUE(absl::IsInvalidArgument(ParseLineFormat("xml").status()));
}

}  // namespace
}  // namespace ckpt::observe
