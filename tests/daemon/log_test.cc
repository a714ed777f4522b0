// Log lines: one line each, whatever a client's strings hold; JSON that any parser reads.
#include "server/observe/log.h"

#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace ckpt::observe {
namespace {

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
      for (int i = 0; i < 50; ++i) {
        Info("event", {{"thread", t}, {"number", i}});
        Debug("hidden");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ConfigureLog({});
  EXPECT_EQ(lines.size(), 200u);
  for (const std::string& line : lines) {
    EXPECT_FALSE(nlohmann::json::parse(line, nullptr, false).is_discarded()) << line;
    EXPECT_THAT(line, Not(HasSubstr("hidden")));
  }
}

TEST(LogTest, NamesOfLevelsAndFormats) {
  EXPECT_EQ(*ParseSeverity("warning"), Severity::kWarning);
  EXPECT_TRUE(absl::IsInvalidArgument(ParseSeverity("LOUD").status()));
  EXPECT_EQ(*ParseLineFormat("json"), LineFormat::kJson);
  EXPECT_TRUE(absl::IsInvalidArgument(ParseLineFormat("xml").status()));
}

}  // namespace
}  // namespace ckpt::observe
