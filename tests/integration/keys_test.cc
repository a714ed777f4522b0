// Keys are names inside of files, never names of files: whatever a tensor is called, it is saved
// and comes back bit-equal, and nothing appears anywhere but in the daemon's own folders. What is
// too long is refused.
#include <cstring>
#include <regex>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/key.h"
#include "common/limits.h"
#include "tests/integration/integration_test.h"
#include "tests/integration/raw_save.h"

namespace ckpt::testing {
namespace {

namespace fs = std::filesystem;

std::vector<v1::Key> OddKeys() {
  std::vector<v1::Key> keys;
  for (const std::string& name :
       {std::string("a/b"), std::string(".."), std::string("../../x"), std::string("/tmp/x"),
        std::string("."), std::string("a\0b", 3), std::string("a\nb\"\\"),
        std::string("\xF0\x9F\x90\x8D"), std::string(kKeyBytesMax, 'k')}) {
    keys.push_back(MakeKey({name}));
  }
  keys.push_back(MakeKey({"..", "..", "x"}));
  keys.push_back(MakeKey({"..", "etc/passwd"}));
  return keys;
}

class Keys : public IntegrationTest {
 protected:
  static std::string Bytes(const v1::Key& key) {
    std::string bytes;
    for (uint64_t i = 0; bytes.size() < 4000; ++i) {
      const uint64_t word = Xxh3(absl::StrCat(i, PrintKey(key)));
      bytes.append(reinterpret_cast<const char*>(&word), sizeof(word));
    }
    return bytes;
  }
  static Part MakePart(const std::vector<v1::Key>& keys) {
    auto storage = std::make_shared<std::vector<std::string>>();
    for (const v1::Key& key : keys) storage->push_back(Bytes(key));
    Part part;
    for (size_t i = 0; i < keys.size(); ++i) {
      const std::string& bytes = (*storage)[i];
      part.leaves.push_back(TensorLeaf(keys[i], v1::DTYPE_F32, {bytes.size() / 4}, bytes.data()));
    }
    part.keep_alive = std::move(storage);
    return part;
  }
  void CheckAll(const std::string& selector, const std::vector<v1::Key>& keys,
                const RestoreOptions& options = {}) {
    const auto client = Connect();
    const auto plan = client->PlanRestore(*ParseSelector(selector), options);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ((*plan)->leaves().size(), keys.size());
    for (const v1::Key& key : keys) {
      SCOPED_TRACE(absl::CHexEscape(PrintKey(key).substr(0, 50)));
      const absl::StatusOr<uint32_t> leaf = (*plan)->Find(PrintKey(key), 0);
      ASSERT_TRUE(leaf.ok()) << leaf.status();
      EXPECT_EQ((*plan)->leaves()[*leaf].leaf().key().SerializeAsString(), key.SerializeAsString());
      const std::string expected = Bytes(key);
      std::string restored(expected.size(), '\xA5');
      const ReadTarget target{.leaf_number = *leaf,
                              .region = Box::Whole(std::vector<uint64_t>{expected.size() / 4}),
                              .out = reinterpret_cast<std::byte*>(restored.data())};
      CKPT_ASSERT_OK((*plan)->Read({&target, 1}));
      EXPECT_TRUE(restored == expected);
    }
  }
  // What lies in these folders by name: `deep` ones with all that is below them.
  static std::set<std::string> Names(const std::vector<std::string>& folders, bool deep) {
    std::set<std::string> names;
    const auto add = [&](auto entries) {
      for (const fs::directory_entry& entry : entries) names.insert(entry.path().string());
    };
    for (const std::string& folder : folders) {
      if (deep) {
        add(fs::recursive_directory_iterator(folder));
      } else {
        add(fs::directory_iterator(folder));
      }
    }
    return names;
  }
};

TEST_F(Keys, AnyNameComesBackAndNoneBecomesAFile) {
  const std::vector<v1::Key> keys = OddKeys();
  const std::string beside = fs::path(daemon().data_folder()).parent_path();
  const std::string sockets = fs::path(daemon().socket()).parent_path();
  const std::set<std::string> before = Names({beside, sockets}, /*deep=*/false);
  ASSERT_FALSE(before.empty());

  const auto client = Connect();
  const CheckpointId id = NewId("keys", 1);
  absl::StatusOr<SaveHandle> save = client->Save(id, MakePart(keys), {});
  ASSERT_TRUE(save.ok()) << save.status();
  CKPT_ASSERT_OK(save->AwaitCommitted(absl::Seconds(60)));
  CheckAll("keys@1", keys);
  CheckAll("keys@1", keys, {.stream = true});
  CKPT_EXPECT_OK(Verify("keys@1"));
  for (const std::string& name : daemon().DataFiles()) {
    EXPECT_TRUE(std::regex_match(name, std::regex("[a-z]+/[0-9a-f]{32}\\.[a-z]+"))) << name;
  }
  for (const std::string& name : Names({daemon().data_folder(), daemon().memory_folder()}, true)) {
    const std::string last = fs::path(name).filename();
    EXPECT_THAT(last, ::testing::Not(::testing::AnyOf("a", "b", "x", "etc", "passwd", "tmp")));
    EXPECT_LT(last.size(), 100u) << last;
  }
  EXPECT_EQ(Names({beside, sockets}, false), before);
  for (const std::string& folder :
       {daemon().data_folder(), daemon().data_folder() + "/objects", daemon().memory_folder()}) {
    for (const char* path : {"/x", "/../x", "/../../x", "/a", "/../etc"}) {
      EXPECT_FALSE(fs::exists(folder + path)) << folder << path;
    }
  }

  // The files say it all: read from disk by the next daemon.
  daemon().Kill();
  fs::remove_all(daemon().memory_folder());
  CKPT_ASSERT_OK(daemon().Restart());
  CheckAll("keys@latest", keys);
}

TEST_F(Keys, TheLongestIsTakenAndOneByteMoreIsRefused) {
  const auto client = Connect();
  const auto save = [&](const v1::Key& key) {
    absl::StatusOr<SaveHandle> started = client->Save(NewId("run", 1), MakePart({key}), {});
    return started.ok() ? started->AwaitCommitted(absl::Seconds(60)) : started.status();
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  CKPT_EXPECT_ERROR(save(MakeKey({std::string(kKeyBytesMax + 1, 'k')})), invalid, "key");
  CKPT_EXPECT_ERROR(save(MakeKey({std::string(10 << 10, 'k')})), invalid, "key");
  // It is the printed key that counts.
  CKPT_EXPECT_ERROR(
      save(MakeKey({std::string(kKeyBytesMax / 2, 'k'), std::string(kKeyBytesMax / 2, 'l')})),
      invalid, "key");
  CKPT_EXPECT_ERROR(save(MakeKey({"no \xFF UTF-8"})), invalid, "UTF-8");
  EXPECT_THAT(CommittedSteps("run"), ::testing::IsEmpty());
  CKPT_EXPECT_OK(save(MakeKey({std::string(kKeyBytesMax, 'k')})));

  // Nor does the daemon rely on its clients for that.
  RawPart part = MakeRawPart(TestState::Plain(1, 100), 0, 1);
  const auto raw = [&](size_t key_bytes) {
    v1::Layout layout;
    EXPECT_TRUE(layout.ParseFromString(part.layout));
    layout.mutable_leaves(0)->mutable_key()->mutable_segments(0)->set_name(
        std::string(key_bytes, 'k'));
    RawPart changed = part;
    changed.layout = layout.SerializeAsString();
    changed.layout_digest = Sha256(changed.layout);
    RawSave stream(channel());
    return stream.Open(MakeBegin(NewId("raw", 1), changed, 0, 1), changed).status();
  };
  CKPT_EXPECT_OK(raw(kKeyBytesMax));
  CKPT_EXPECT_ERROR(raw(kKeyBytesMax + 1), invalid, "key");
  CKPT_EXPECT_ERROR(raw(10 << 10), invalid, "key");
}

}  // namespace
}  // namespace ckpt::testing
