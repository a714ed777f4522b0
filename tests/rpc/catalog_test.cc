// The catalogue's calls over a real index and data folder.
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/key.h"
#include "gmock/gmock.h"
#include "server/storage/names.h"
#include "tests/rpc/rpc_fixture.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class CatalogTest : public RpcTest {
 protected:
  absl::StatusOr<v1::ListCheckpointsResponse> List(const v1::ListCheckpointsRequest& request) {
    v1::ListCheckpointsResponse response;
    const absl::Status status = ListCheckpoints(*catalog_, request, response);
    if (!status.ok()) return status;
    return response;
  }
  absl::StatusOr<v1::GetCheckpointResponse> Get(const v1::Selector& selector) {
    v1::GetCheckpointRequest request;
    *request.mutable_selector() = selector;
    v1::GetCheckpointResponse response;
    const absl::Status status = GetCheckpoint(*catalog_, request, Never, response);
    if (!status.ok()) return status;
    return response;
  }
  absl::Status Delete(const v1::Selector& selector) {
    v1::DeleteCheckpointRequest request;
    *request.mutable_selector() = selector;
    v1::DeleteCheckpointResponse response;
    return DeleteCheckpoint(*catalog_, request, Never, response);
  }
  absl::Status Tag(const v1::Selector& selector, const std::vector<std::string>& add,
                   const std::vector<std::string>& remove = {}) {
    v1::TagCheckpointRequest request;
    *request.mutable_selector() = selector;
    for (const std::string& tag : add) request.add_add(tag);
    for (const std::string& tag : remove) request.add_remove(tag);
    v1::TagCheckpointResponse response;
    return TagCheckpoint(*catalog_, request, Never, response);
  }
  static v1::Selector TagOf(const std::string& run, const std::string& tag) {
    v1::Selector selector;
    selector.set_run(run);
    selector.set_tag(tag);
    return selector;
  }
  static std::vector<uint64_t> Steps(const v1::ListCheckpointsResponse& response) {
    std::vector<uint64_t> steps;
    for (const auto& info : response.checkpoints()) steps.push_back(info.id().step());
    return steps;
  }
};

TEST_F(CatalogTest, RunsAreListedInOrderWithLiveOnesPageByPage) {
  Save(IdOf("b/two", 1));
  Save(IdOf("b/two", 2));
  Save(IdOf("c", 7));
  live_.Add(IdOf("a", 1), v1::CHECKPOINT_STATE_WRITING);
  v1::ListRunsRequest request;
  request.set_page_size(2);
  v1::ListRunsResponse first;
  ASSERT_TRUE(ListRuns(*catalog_, request, first).ok());
  ASSERT_EQ(first.runs_size(), 2);
  EXPECT_EQ(first.runs(0).run(), "a");
  EXPECT_EQ(first.runs(1).run(), "b/two");
  EXPECT_EQ(first.runs(1).checkpoint_count(), 2u);
  EXPECT_EQ(first.runs(1).latest_committed_step(), 2u);
  request.set_page_token(first.next_page_token());
  v1::ListRunsResponse second;
  ASSERT_TRUE(ListRuns(*catalog_, request, second).ok());
  ASSERT_EQ(second.runs_size(), 1);
  EXPECT_EQ(second.runs(0).run(), "c");
  EXPECT_THAT(second.next_page_token(), IsEmpty());
}

TEST_F(CatalogTest, RunsByPrefix) {
  Save(IdOf("team/a", 1));
  Save(IdOf("other", 1));
  v1::ListRunsRequest request;
  request.set_prefix("team/");
  v1::ListRunsResponse response;
  ASSERT_TRUE(ListRuns(*catalog_, request, response).ok());
  ASSERT_EQ(response.runs_size(), 1);
  EXPECT_EQ(response.runs(0).run(), "team/a");
  request.set_prefix("../etc\n");
  EXPECT_TRUE(absl::IsInvalidArgument(ListRuns(*catalog_, request, response)));
}

TEST_F(CatalogTest, TokensOfOthersAreRefused) {
  for (uint64_t step = 0; step < 5; ++step) Save(IdOf("r", step));
  v1::ListCheckpointsRequest request;
  request.set_run("r");
  request.set_page_size(2);
  const auto page = List(request);
  ASSERT_TRUE(page.ok()) << page.status();
  ASSERT_FALSE(page->next_page_token().empty());
  for (const std::string& token :
       {std::string("garbage"), std::string("AAAA"), std::string(5000, 'A'),
        page->next_page_token() + "AAAA", std::string("\0\xff", 2)}) {
    request.set_page_token(token);
    EXPECT_TRUE(absl::IsInvalidArgument(List(request).status())) << token;
  }
  request.set_page_token(page->next_page_token());
  request.set_include_aborted(true);  // another question
  EXPECT_TRUE(absl::IsInvalidArgument(List(request).status()));
  request.clear_page_token();
  request.set_page_size(100000);
  EXPECT_TRUE(absl::IsInvalidArgument(List(request).status()));
}

TEST_F(CatalogTest, CheckpointsComeNewestFirstMergedWithLiveOnes) {
  for (const uint64_t step : {10, 30, 20}) Save(IdOf("r", step));
  live_.Add(IdOf("r", 40), v1::CHECKPOINT_STATE_STAGED);
  live_.Add(IdOf("r", 25), v1::CHECKPOINT_STATE_WRITING);
  live_.Add(IdOf("r", 5), v1::CHECKPOINT_STATE_ABORTED);
  live_.Add(IdOf("other", 50), v1::CHECKPOINT_STATE_WRITING);
  v1::ListCheckpointsRequest request;
  request.set_run("r");
  request.set_page_size(2);
  std::vector<uint64_t> steps;
  int pages = 0;
  do {
    const auto page = List(request);
    ASSERT_TRUE(page.ok()) << page.status();
    for (const uint64_t step : Steps(*page)) steps.push_back(step);
    request.set_page_token(page->next_page_token());
    ++pages;
  } while (!request.page_token().empty() && pages < 10);
  EXPECT_THAT(steps, ElementsAre(40, 30, 25, 20, 10));
  EXPECT_EQ(pages, 3);
  request.clear_page_token();
  request.set_page_size(0);
  request.set_include_aborted(true);
  EXPECT_THAT(Steps(*List(request)), ElementsAre(40, 30, 25, 20, 10, 5));
}

TEST_F(CatalogTest, UnknownRunNamesTheNearest) {
  Save(IdOf("team/llama-7b", 1));
  v1::ListCheckpointsRequest request;
  request.set_run("team/lama-7b");
  const absl::Status status = List(request).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("team/llama-7b"));
}

TEST_F(CatalogTest, UnknownStepSaysWhichThereAre) {
  Save(IdOf("r", 100));
  Save(IdOf("r", 200));
  const absl::Status status = Get(StepOf("r", 150)).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("100"), HasSubstr("200")));
  EXPECT_TRUE(absl::IsNotFound(Get(StepOf("nobody", 1)).status()));
  EXPECT_TRUE(absl::IsNotFound(Get(TagOf("r", "best")).status()));
}

TEST_F(CatalogTest, GetShowsPartsAndFiles) {
  const CheckpointUid uid = Save(IdOf("r", 3), {100, 200}, 2);
  memory_.Put(uid, 1, "x");
  const auto got = Get(StepOf("r", 3));
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->checkpoint().state(), v1::CHECKPOINT_STATE_COMMITTED);
  EXPECT_EQ(got->checkpoint().checkpoint_uid(), uid.bytes());
  EXPECT_EQ(got->checkpoint().data_bytes(), 600u);
  EXPECT_EQ(got->checkpoint().world_size(), 2u);
  EXPECT_FALSE(got->checkpoint().in_memory());
  ASSERT_EQ(got->parts_size(), 2);
  EXPECT_EQ(got->parts(0).shard_count(), 2u);
  EXPECT_FALSE(got->parts(0).in_memory());
  EXPECT_TRUE(got->parts(1).in_memory());
  ASSERT_EQ(got->parts(0).disk_files_size(), 1);
  EXPECT_TRUE(names::ParseDataFile(got->parts(0).disk_files(0)).has_value());
}

TEST_F(CatalogTest, GetFindsWhatIsNotCommittedByStepOnly) {
  Save(IdOf("r", 1));
  live_.Add(IdOf("r", 2), v1::CHECKPOINT_STATE_WRITING);
  EXPECT_EQ(Get(StepOf("r", 2))->checkpoint().state(), v1::CHECKPOINT_STATE_WRITING);
  EXPECT_EQ(Get(LatestOf("r"))->checkpoint().id().step(), 1u);
}

TEST_F(CatalogTest, SelectorsAreChecked) {
  Save(IdOf("r", 1));
  v1::Selector none;
  none.set_run("r");
  EXPECT_TRUE(absl::IsInvalidArgument(Get(none).status()));
  none.set_latest(false);
  EXPECT_TRUE(absl::IsInvalidArgument(Get(none).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Get(StepOf("r", uint64_t{1} << 63)).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Get(TagOf("r", "latest")).status()));
  v1::Selector odd = StepOf("r", 1);
  odd.set_incarnation("short");
  EXPECT_TRUE(absl::IsInvalidArgument(Get(odd).status()));
}

TEST_F(CatalogTest, HostileRunNamesAreRefusedEverywhere) {
  for (const std::string& run :
       {std::string(""), std::string("/"), std::string("a//b"), std::string("../x"),
        std::string("a/../b"), std::string("a/."), std::string("a\0b", 3), std::string("a b"),
        std::string(10240, 'x'), std::string("\xff\xfe"), std::string("/etc/passwd"),
        std::string("a/"), std::string("a\nb")}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Get(StepOf(run, 1)).status())) << run;
    EXPECT_TRUE(absl::IsInvalidArgument(Delete(StepOf(run, 1)))) << run;
    EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf(run, 1), {"t"}))) << run;
    v1::ListCheckpointsRequest list;
    list.set_run(run);
    const absl::Status status = List(list).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << run;
    EXPECT_LT(status.message().size(), 1000u);
    v1::PlanRestoreRequest plan;
    *plan.mutable_selector() = LatestOf(run);
    EXPECT_TRUE(absl::IsInvalidArgument(Plan(plan).status())) << run;
    v1::WaitCheckpointRequest wait;
    wait.mutable_id()->set_run(run);
    wait.set_state(v1::CHECKPOINT_STATE_COMMITTED);
    v1::WaitCheckpointResponse waited;
    EXPECT_TRUE(absl::IsInvalidArgument(
        WaitCheckpoint(*catalog_, wait, absl::InfiniteFuture(), Never, waited)))
        << run;
  }
}

TEST_F(CatalogTest, DeleteHidesAtOnceAndOnce) {
  Save(IdOf("r", 1));
  const CheckpointUid second = Save(IdOf("r", 2));
  memory_.Put(second, 0, "x");
  ASSERT_TRUE(Delete(StepOf("r", 2)).ok());
  EXPECT_TRUE(absl::IsNotFound(Get(StepOf("r", 2)).status()));
  EXPECT_EQ(Get(LatestOf("r"))->checkpoint().id().step(), 1u);
  EXPECT_FALSE(memory_.Has(second, 0));
  EXPECT_TRUE(absl::IsNotFound(Delete(StepOf("r", 2))));
}

TEST_F(CatalogTest, DeleteRefusesWhatIsBeingWritten) {
  live_.Add(IdOf("r", 1), v1::CHECKPOINT_STATE_WRITING);
  EXPECT_TRUE(absl::IsFailedPrecondition(Delete(StepOf("r", 1))));
}

TEST_F(CatalogTest, DeleteRefusesAPinnedOne) {
  const CheckpointUid uid = Save(IdOf("r", 1));
  v1::Labels labels;
  labels.set_pinned(true);
  ASSERT_TRUE(store_->index().PutLabels(uid, labels).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Delete(StepOf("r", 1))));
}

TEST_F(CatalogTest, ATagMovesWhenSetElsewhere) {
  const CheckpointUid first = Save(IdOf("r", 1));
  const CheckpointUid second = Save(IdOf("r", 2));
  ASSERT_TRUE(Tag(StepOf("r", 1), {"best", "first"}).ok());
  EXPECT_EQ(Get(TagOf("r", "best"))->checkpoint().id().step(), 1u);
  ASSERT_TRUE(Tag(StepOf("r", 2), {"best"}).ok());
  ASSERT_TRUE(Tag(StepOf("r", 2), {"best"}).ok());  // idempotent
  EXPECT_EQ(Get(TagOf("r", "best"))->checkpoint().id().step(), 2u);
  EXPECT_EQ(Get(TagOf("r", "first"))->checkpoint().id().step(), 1u);
  // The files are the truth.
  EXPECT_THAT(store_->folder().ReadLabels(first)->tags(), ElementsAre("first"));
  EXPECT_THAT(store_->folder().ReadLabels(second)->tags(), ElementsAre("best"));
  ASSERT_TRUE(Tag(TagOf("r", "best"), {}, {"best"}).ok());
  EXPECT_TRUE(absl::IsNotFound(Get(TagOf("r", "best")).status()));
}

TEST_F(CatalogTest, BadTagsAreRefused) {
  Save(IdOf("r", 1));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {})));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {"latest"})));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {"123"})));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {"a/b"})));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {std::string(101, 'a')})));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), {"a"}, {"a"})));
  std::vector<std::string> many;
  for (int i = 0; i < 33; ++i) many.push_back(absl::StrCat("tag-", i));
  EXPECT_TRUE(absl::IsInvalidArgument(Tag(StepOf("r", 1), many)));
}

TEST_F(CatalogTest, WaitKnowsWhatCommittedBeforeThisProcess) {
  Save(IdOf("r", 1));
  v1::WaitCheckpointRequest request;
  *request.mutable_id() = IdOf("r", 1).ToProto();
  request.set_state(v1::CHECKPOINT_STATE_STAGED);
  v1::WaitCheckpointResponse response;
  ASSERT_TRUE(WaitCheckpoint(*catalog_, request, absl::InfiniteFuture(), Never, response).ok());
  EXPECT_EQ(response.checkpoint().state(), v1::CHECKPOINT_STATE_COMMITTED);
  request.mutable_id()->clear_incarnation();
  EXPECT_TRUE(WaitCheckpoint(*catalog_, request, absl::InfiniteFuture(), Never, response).ok());
  request.mutable_id()->set_step(2);
  EXPECT_TRUE(absl::IsNotFound(
      WaitCheckpoint(*catalog_, request, absl::InfiniteFuture(), Never, response)));
  request.set_state(v1::CHECKPOINT_STATE_UNSPECIFIED);
  EXPECT_TRUE(absl::IsInvalidArgument(
      WaitCheckpoint(*catalog_, request, absl::InfiniteFuture(), Never, response)));
}

TEST_F(CatalogTest, WatchSendsWhatExistsThenChanges) {
  Save(IdOf("r", 1));
  live_.Add(IdOf("r", 2), v1::CHECKPOINT_STATE_WRITING);
  Save(IdOf("other", 9));
  std::vector<std::string> seen;
  v1::WatchCheckpointsRequest request;
  request.set_run("r");
  const absl::Status status =
      WatchCheckpoints(*catalog_, request, Never, [&](const v1::WatchCheckpointsResponse& change) {
        if (change.snapshot_end()) {
          seen.push_back("end");
          v1::CheckpointInfo info;  // changes of this run, and of another
          *info.mutable_id() = IdOf("other", 9).ToProto();
          live_.Announce(info, false);
          *info.mutable_id() = IdOf("r", 2).ToProto();
          info.set_state(v1::CHECKPOINT_STATE_STAGED);
          live_.Announce(info, false);
          info.set_state(v1::CHECKPOINT_STATE_COMMITTED);  // the reader misses STAGED
          live_.Announce(info, false);
          *info.mutable_id() = IdOf("r", 1).ToProto();
          live_.Announce(info, true);
          return true;
        }
        seen.push_back(absl::StrCat(change.checkpoint().id().step(), " ",
                                    change.checkpoint().state(),
                                    change.deleted() ? " deleted" : ""));
        return !change.deleted();  // then the caller goes
      });
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_THAT(seen, ElementsAre("1 3", "2 1", "end", "2 3", "1 3 deleted"));
  EXPECT_EQ(live_.subscribers(), 0u);
}

// More than one batch of them, and two attempts at every step: the later one is what exists.
TEST_F(CatalogTest, WatchSendsEachStepOnceHoweverManyThereAre) {
  std::set<uint64_t> expected;
  for (uint64_t step = 0; step < 2100; ++step) {
    expected.insert(step);
    for (uint8_t incarnation = 1; incarnation <= 2; ++incarnation) {
      v1::CheckpointManifest manifest;
      *manifest.mutable_id() = IdOf("r", step, incarnation).ToProto();
      manifest.set_checkpoint_uid(CheckpointUid::TimeOrdered().bytes());
      ASSERT_TRUE(store_->index().PutCheckpoint(manifest, {}, {}).ok());
    }
  }
  std::set<uint64_t> seen;
  uint64_t sent = 0;
  v1::WatchCheckpointsRequest request;
  WatchCheckpoints(*catalog_, request, Never, [&](const v1::WatchCheckpointsResponse& change) {
    if (change.snapshot_end()) return false;
    ++sent;
    seen.insert(change.checkpoint().id().step());
    EXPECT_EQ(change.checkpoint().id().incarnation(), IncarnationOf(2).bytes());
    return true;
  }).IgnoreError();
  EXPECT_EQ(sent, expected.size());
  EXPECT_EQ(seen, expected);
}

TEST_F(CatalogTest, WatchOfASlowReaderIsBoundedAndEnds) {
  v1::WatchCheckpointsRequest request;
  int changes = 0;
  const absl::Status status =
      WatchCheckpoints(*catalog_, request, Never, [&](const v1::WatchCheckpointsResponse& change) {
        if (!change.snapshot_end()) ++changes;
        v1::CheckpointInfo info;
        for (uint64_t step = 0; change.snapshot_end() && step < 70000; ++step) {
          info.mutable_id()->set_step(step);
          live_.Announce(info, false);
        }
        return true;
      });
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(changes, 0);
}

TEST_F(CatalogTest, WatchEndsWhenTheCallerHasGone) {
  std::atomic<bool> gone{false};
  std::thread watcher([&] {
    const absl::Status status = WatchCheckpoints(
        *catalog_, {}, [&] { return gone.load(); },
        [](const v1::WatchCheckpointsResponse&) { return true; });
    EXPECT_TRUE(absl::IsCancelled(status)) << status;
  });
  gone = true;
  watcher.join();
}

TEST_F(CatalogTest, TensorsAreListedByKeyPageByPage) {
  Save(IdOf("r", 1), std::vector<uint64_t>(12, 10), 2);  // t0 ... t11 of two ranks
  v1::ListTensorsRequest request;
  *request.mutable_selector() = LatestOf("r");
  request.set_page_size(7);
  std::vector<std::string> keys;
  do {
    v1::ListTensorsResponse page;
    const absl::Status status = ListTensors(*catalog_, request, Never, page);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(page.id().step(), 1u);
    for (const v1::TensorInfo& info : page.tensors()) {
      keys.push_back(absl::StrCat(info.leaf().key().segments(0).name(), "/", info.rank()));
      EXPECT_EQ(info.data_bytes(), 10u);
      EXPECT_EQ(info.shard_count(), 1u);
    }
    request.set_page_token(page.next_page_token());
    Save(IdOf("r", 2 + keys.size()));  // later pages stay with the checkpoint of the first
  } while (!request.page_token().empty() && keys.size() < 100);
  EXPECT_EQ(keys.size(), 24u);
  EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
}

TEST_F(CatalogTest, TensorsAreFiltered) {
  Save(IdOf("r", 1), {10, 10, 10});
  v1::ListTensorsRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  request.mutable_selection()->add_exclude("t1");
  v1::ListTensorsResponse response;
  ASSERT_TRUE(ListTensors(*catalog_, request, Never, response).ok());
  EXPECT_EQ(response.tensors_size(), 2);
  request.mutable_selection()->add_keys()->add_segments()->set_name("t9");
  const absl::Status status = ListTensors(*catalog_, request, Never, response);
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("t9"));
}

TEST_F(CatalogTest, PagesMayEndAtTheLongestKeys) {
  v1::Layout layout;
  for (int i = 0; i < 3; ++i) {
    v1::Leaf* leaf = layout.add_leaves();
    const std::string name(4095, 'k');
    *leaf->mutable_key() = MakeKey({name + std::to_string(i)});
    leaf->set_kind(v1::LEAF_KIND_EMPTY_DICT);
    leaf->set_placement(v1::PLACEMENT_PER_RANK);
  }
  SaveLayouts(IdOf("r", 1), {layout});
  v1::ListTensorsRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  request.set_page_size(1);
  for (int i = 0; i < 3; ++i) {
    v1::ListTensorsResponse page;
    const absl::Status status = ListTensors(*catalog_, request, Never, page);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(page.tensors_size(), 1);
    EXPECT_EQ(page.tensors(0).leaf().key().segments(0).name().back(), '0' + i);
    EXPECT_EQ(page.next_page_token().empty(), i == 2);
    request.set_page_token(page.next_page_token());
  }
}

TEST_F(CatalogTest, NearestKeysAreFoundAmongManyByTheirSegments) {
  v1::Layout layout;
  const auto add = [&](const std::vector<absl::string_view>& names) {
    v1::Leaf* leaf = layout.add_leaves();
    *leaf->mutable_key() = MakeKey(names);
    leaf->set_kind(v1::LEAF_KIND_EMPTY_DICT);
    leaf->set_placement(v1::PLACEMENT_REPLICATED);
  };
  for (int i = 0; i < 3000; ++i) add({"blocks", std::to_string(i), "weight"});
  add({"transformer", "wte", "weight"});
  add({"transformer", "head", "bias"});
  SaveLayouts(IdOf("r", 1), {layout, layout});
  const auto asked = [&](const std::vector<absl::string_view>& names) {
    v1::ListTensorsRequest request;
    *request.mutable_selector() = StepOf("r", 1);
    *request.mutable_selection()->add_keys() = MakeKey(names);
    v1::ListTensorsResponse page;
    const absl::Status status = ListTensors(*catalog_, request, Never, page);
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(asked({"transfromer", "wte", "weight"}), HasSubstr("'transformer.wte.weight'"));
  EXPECT_THAT(asked({"transformer", "haed", "bias"}), HasSubstr("'transformer.head.bias'"));
  EXPECT_THAT(asked({"blocks", "2777", "wieght"}), HasSubstr("'blocks.2777.weight'"));
  EXPECT_THAT(asked({"nothing", "like", "it", "at", "all"}), Not(HasSubstr("nearest")));
}

TEST_F(CatalogTest, VerifyReportsProgressAndDamage) {
  const CheckpointUid uid = Save(IdOf("r", 1), {3 << 20, 100});
  v1::VerifyCheckpointRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  v1::VerifyCheckpointResponse last;
  std::vector<std::string> damage;
  const auto keep = [&](const v1::VerifyCheckpointResponse& response) {
    last = response;
    damage.insert(damage.end(), response.damage().begin(), response.damage().end());
    return true;
  };
  ASSERT_TRUE(VerifyCheckpoint(*catalog_, request, Never, keep).ok());
  EXPECT_TRUE(last.done());
  EXPECT_GE(last.bytes_total(), (3u << 20) + 100);
  EXPECT_EQ(last.bytes_done(), last.bytes_total());
  EXPECT_THAT(damage, IsEmpty());

  const auto part = store_->index().GetPartHead(uid, 0);
  ASSERT_TRUE(part.ok()) << part.status();
  const std::string file = names::DataFile(*FileId::FromBytes(part->files(0).file_id(), "file_id"));
  FlipByte(store_->folder().ObjectsFolder() + "/" + file,
           part->files(0).header_length() + (2 << 20) + 17);
  ASSERT_TRUE(VerifyCheckpoint(*catalog_, request, Never, keep).ok());
  EXPECT_TRUE(last.done());
  EXPECT_THAT(damage, ElementsAre(AllOf(HasSubstr(file), HasSubstr("t0"))));
}

TEST_F(CatalogTest, VerifyOfACutFileIsDamageNotAnError) {
  const CheckpointUid uid = Save(IdOf("r", 1), {3 << 20});
  const auto part = store_->index().GetPartHead(uid, 0);
  CutFile(store_->folder().ObjectsFolder() + "/" +
              names::DataFile(*FileId::FromBytes(part->files(0).file_id(), "file_id")),
          1 << 20);
  v1::VerifyCheckpointRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  int damage = 0;
  ASSERT_TRUE(VerifyCheckpoint(*catalog_, request, Never,
                               [&](const v1::VerifyCheckpointResponse& response) {
                                 damage += response.damage_size();
                                 return true;
                               })
                  .ok());
  EXPECT_GT(damage, 0);
}

TEST_F(CatalogTest, VerifyStopsWhenCancelled) {
  Save(IdOf("r", 1), {3 << 20});
  v1::VerifyCheckpointRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  EXPECT_TRUE(absl::IsCancelled(VerifyCheckpoint(
      *catalog_, request, [] { return true; },
      [](const v1::VerifyCheckpointResponse&) { return true; })));
}

}  // namespace
}  // namespace ckpt
