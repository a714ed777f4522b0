#include "client/cli/output.h"

#include "client/cli/exit_code.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ckpt::cli {
namespace {

using ::testing::internal::CaptureStdout;
using ::testing::internal::GetCapturedStdout;

std::string Printed(OutputFormat format, int records) {
  CaptureStdout();
  RecordPrinter printer(format, {{"NAME"}, {"SIZE", true}});
  for (int i = 0; i < records; ++i) {
    const std::string name(static_cast<size_t>(i) * 4 + 1, 'x');
    printer.Add(Json{{"name", name}, {"size", i}}, {name, std::to_string(i * 1000)});
  }
  printer.Finish("nothing");
  std::fflush(stdout);
  return GetCapturedStdout();
}

TEST(RecordPrinter, AlignsTables) {
  EXPECT_EQ(Printed(OutputFormat::kTable, 2),
            "NAME   SIZE\n"
            "x         0\n"
            "xxxxx  1000\n");
  EXPECT_EQ(Printed(OutputFormat::kTable, 0), "nothing\n");
}

TEST(RecordPrinter, JsonIsOneDocument) {
  for (const int records : {0, 1, 3}) {
    const Json parsed = Json::parse(Printed(OutputFormat::kJson, records), nullptr, false);
    ASSERT_TRUE(parsed.is_array());
    EXPECT_EQ(parsed.size(), static_cast<size_t>(records));
  }
}

TEST(RecordPrinter, JsonLinesAreOneEach) {
  EXPECT_EQ(Printed(OutputFormat::kJsonLines, 0), "");
  EXPECT_EQ(Printed(OutputFormat::kJsonLines, 2),
            "{\"name\":\"x\",\"size\":0}\n{\"name\":\"xxxxx\",\"size\":1}\n");
}

TEST(Printable, NothingReachesTheTerminalThatMovesItsCursor) {
  EXPECT_EQ(Printable("plain.key"), "plain.key");
  EXPECT_EQ(Printable("a\x1b[2Jb\nc"), "a\\033[2Jb\\nc");
  EXPECT_EQ(Printable("gr\xc3\xb6\xc3\x9f"
                      "e"),
            "gr\xc3\xb6\xc3\x9f"
            "e");
  EXPECT_EQ(Printable("a\xc2\x9b[2J\xc2\x80"), "a\\302\\233[2J\\302\\200");
  EXPECT_EQ(Printable("\xc2\xa0\xc2"), "\xc2\xa0\xef\xbf\xbd");
  EXPECT_EQ(Printable("bad \xff utf8"), "bad \xef\xbf\xbd utf8");
  EXPECT_EQ(Printable(absl::string_view("a\0b", 3)), "a\\000b");
}

TEST(PrintAge, GreatestUnitThatFits) {
  EXPECT_EQ(PrintAge(absl::Seconds(-5)), "0s");
  EXPECT_EQ(PrintAge(absl::Seconds(59)), "59s");
  EXPECT_EQ(PrintAge(absl::Seconds(61)), "1m");
  EXPECT_EQ(PrintAge(absl::Hours(47)), "47h");
  EXPECT_EQ(PrintAge(absl::Hours(49)), "2d");
}

TEST(ExitCode, EveryCodeThatTheDaemonAnswersHasOne) {
  EXPECT_EQ(ToExitCode(absl::OkStatus()), 0);
  EXPECT_EQ(ToExitCode(absl::InternalError("")), 1);
  EXPECT_EQ(ToExitCode(absl::InvalidArgumentError("")), 2);
  EXPECT_EQ(ToExitCode(absl::NotFoundError("")), 3);
  EXPECT_EQ(ToExitCode(absl::UnavailableError("")), 4);
  EXPECT_EQ(ToExitCode(absl::AlreadyExistsError("")), 5);
  EXPECT_EQ(ToExitCode(absl::DataLossError("")), 6);
  EXPECT_EQ(ToExitCode(absl::DeadlineExceededError("")), 7);
  EXPECT_EQ(ToExitCode(absl::AbortedError("")), 8);
  EXPECT_EQ(ToExitCode(absl::ResourceExhaustedError("")), 9);
  EXPECT_EQ(ToExitCode(absl::PermissionDeniedError("")), 10);
}

}  // namespace
}  // namespace ckpt::cli
