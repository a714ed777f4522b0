#include "server/access/token_file.h"

#include <sys/stat.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fixtures/daemon.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string HashOf(const std::string& token) { return absl::BytesToHexString(Sha256(token)); }

std::string Refusal(const std::string& text) {
  const absl::StatusOr<TokenRights> parsed = ParseTokenFile(text, "f");
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(parsed.status().message());
}

TEST(TokenFileText, LinesGiveRightsToHashes) {
  // What `printf %s test | sha256sum` prints.
  const std::string hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
  const auto tokens =
      ParseTokenFile(absl::StrCat("# who\n\n", hash, " team-a team-a/** read,write\n", "\t", hash,
                                  "\tteam-a  shared/*\tread\r\n", HashOf("other"), " ops ** admin"),
                     "f");
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  ASSERT_EQ(tokens->size(), 2u);
  const Rights& team = *tokens->at(Sha256("test"));
  EXPECT_EQ(team.name(), "token team-a");
  EXPECT_TRUE(team.May(Verb::kWrite, "team-a/x"));
  EXPECT_TRUE(team.May(Verb::kRead, "shared/x"));
  EXPECT_FALSE(team.May(Verb::kWrite, "shared/x"));
  EXPECT_TRUE(tokens->at(Sha256("other"))->MayEverywhere(Verb::kAdmin));
}

TEST(TokenFileText, WrongLinesAreNamed) {
  const std::string hash = HashOf("token");
  EXPECT_THAT(Refusal("\n" + hash + " team-a team-a/**"),
              AllOf(HasSubstr("f:2"), HasSubstr("3 words")));
  EXPECT_THAT(Refusal(hash + " team-a a b c"), HasSubstr("5 words"));
  EXPECT_THAT(Refusal(hash + " team/a ** read"), HasSubstr("'team/a'"));
  EXPECT_THAT(Refusal(hash + " a [x] read"), HasSubstr("a pattern is"));
  EXPECT_THAT(Refusal(hash + " a ** read,delete"), AllOf(HasSubstr("verbs"), HasSubstr("delete")));
  EXPECT_THAT(Refusal(hash + " a ** none"), HasSubstr("verbs"));
  EXPECT_THAT(Refusal(hash + " a ** read\n" + hash + " b ** read"),
              AllOf(HasSubstr("f:2"), HasSubstr("two names")));
}

TEST(TokenFileText, ATokenInTheClearIsNotRepeatedInTheError) {
  EXPECT_THAT(Refusal("my-secret-token team-a ** read"),
              AllOf(HasSubstr("sha256sum"), Not(HasSubstr("my-secret-token"))));
  EXPECT_THAT(Refusal(HashOf("x").substr(1) + " team-a ** read"), HasSubstr("64 hex digits"));
}

class TokenFileTest : public ::testing::Test {
 protected:
  static std::string Line(const std::string& token, const std::string& rest) {
    return absl::StrCat(HashOf(token), " ", rest, "\n");
  }
  void Write(const std::string& text) { std::ofstream(path_, std::ios::trunc) << text; }
  // As an editor or a configuration tool does it.
  void Replace(const std::string& text) {
    std::ofstream(path_ + ".new") << text;
    ASSERT_EQ(std::rename((path_ + ".new").c_str(), path_.c_str()), 0);
  }
  // Looks at the file at every use.
  std::unique_ptr<TokenFile> Open() {
    auto file = TokenFile::Open(path_, absl::ZeroDuration());
    EXPECT_TRUE(file.ok()) << file.status();
    return file.ok() ? *std::move(file) : nullptr;
  }

  testing::ScratchFolder scratch_;
  const std::string path_ = scratch_ / "tokens";
};

TEST_F(TokenFileTest, FindsTokensByWhatTheyAre) {
  Write(Line("secret", "team-a team-a/** read"));
  const auto file = Open();
  ASSERT_NE(file->Find("secret"), nullptr);
  EXPECT_EQ(file->Find("secret")->name(), "token team-a");
  for (const std::string& token : {std::string(), std::string("secre"), std::string("secret "),
                                   HashOf("secret"), std::string("s\0cret", 6)}) {
    EXPECT_EQ(file->Find(token), nullptr) << token;
  }
}

TEST_F(TokenFileTest, ChangesHoldWithoutARestart) {
  Write(Line("one", "a ** read"));
  const auto file = Open();
  EXPECT_NE(file->Find("one"), nullptr);
  Replace(Line("two", "b ** write"));
  EXPECT_EQ(file->Find("one"), nullptr);
  ASSERT_NE(file->Find("two"), nullptr);
  EXPECT_TRUE(file->Find("two")->May(Verb::kWrite, "x"));
  Write(Line("two", "b ** read"));  // in place
  EXPECT_FALSE(file->Find("two")->May(Verb::kWrite, "x"));
  Write("");
  EXPECT_EQ(file->Find("two"), nullptr);
}

// Two writes within one tick of the file system's clock, of the same length.
TEST_F(TokenFileTest, ASecondChangeRightAfterTheFirstIsSeen) {
  Write(Line("one", "a ** read"));
  const auto file = Open();
  for (int i = 0; i < 50; ++i) {
    const std::string token = absl::StrCat("token", i);
    Write(Line(token, "a ** read"));
    ASSERT_NE(file->Find(token), nullptr) << i;
  }
}

TEST_F(TokenFileTest, AWrongVersionLeavesTheOneBefore) {
  Write(Line("one", "a ** read"));
  const auto file = Open();
  Write("nonsense\n");
  EXPECT_NE(file->Find("one"), nullptr);
  std::remove(path_.c_str());
  EXPECT_NE(file->Find("one"), nullptr);
  Write(Line("two", "b ** read"));
  EXPECT_EQ(file->Find("one"), nullptr);
  EXPECT_NE(file->Find("two"), nullptr);
}

TEST_F(TokenFileTest, IsLookedAtOnceASecondAtMost) {
  Write(Line("one", "a ** read"));
  auto file = TokenFile::Open(path_, absl::Hours(1));
  ASSERT_TRUE(file.ok()) << file.status();
  Write(Line("two", "b ** read"));
  EXPECT_NE((*file)->Find("one"), nullptr);
  EXPECT_EQ((*file)->Find("two"), nullptr);
}

TEST_F(TokenFileTest, IsRefusedAtTheStartWhereItIsWrong) {
  const auto refusal = [&] { return std::string(TokenFile::Open(path_).status().message()); };
  EXPECT_THAT(refusal(), AllOf(HasSubstr("--token-file"), HasSubstr("cannot be read")));
  Write("x\n");
  EXPECT_THAT(refusal(), HasSubstr(path_ + ":1"));
  Write(Line("one", "a ** read"));
  ASSERT_EQ(chmod(path_.c_str(), 0646), 0);
  EXPECT_THAT(refusal(), HasSubstr("written by everybody"));
  ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  EXPECT_EQ(refusal(), "");
  EXPECT_THAT(std::string(TokenFile::Open(scratch_.path()).status().message()),
              HasSubstr("is no file"));
}

TEST_F(TokenFileTest, ServesManyThreadsWhileItChanges) {
  Write(Line("one", "a ** read"));
  const auto file = Open();
  std::vector<std::thread> threads;
  std::atomic<bool> lost{false};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        if (file->Find("one") == nullptr) lost = true;
      }
    });
  }
  for (int i = 0; i < 20; ++i) Replace(absl::StrCat(Line("one", "a ** read"), "# ", i, "\n"));
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(lost);
}

}  // namespace
}  // namespace ckpt
