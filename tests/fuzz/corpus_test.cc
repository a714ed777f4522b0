// Every file of seeds/ and hostile/ through its target, in every build: what fuzzing once reached
// stays reached, and what once crashed does not again.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "gtest/gtest.h"
#include "tests/fuzz/targets.h"

namespace ckpt::fuzz {
namespace {

class Corpus : public testing::TestWithParam<Target> {};

TEST_P(Corpus, PassesThrough) {
  int files = 0;
  for (const char* kind : {"seeds", "hostile"}) {
    const std::filesystem::path folder =
        std::filesystem::path(CKPT_FUZZ_FOLDER) / kind / GetParam().name;
    if (!std::filesystem::exists(folder)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string bytes((std::istreambuf_iterator<char>(file)),
                              std::istreambuf_iterator<char>());
      SCOPED_TRACE(entry.path());
      GetParam().run(bytes);
      GetParam().run(absl::string_view(bytes).substr(0, bytes.size() / 2));
      ++files;
    }
  }
  EXPECT_GE(files, 5) << "the corpus of " << GetParam().name << " is missing";
}

INSTANTIATE_TEST_SUITE_P(All, Corpus, testing::ValuesIn(Targets()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace ckpt::fuzz
