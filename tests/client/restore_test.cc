// Client::PlanRestore and RestorePlan::Read against a fake daemon whose files a test damages.
#include "gmock/gmock.h"
#include "tests/client/restore_fixture.h"

namespace ckpt {
namespace {

using ::testing::HasSubstr;

TEST_F(RestoreTest, EveryWayOfReadingBringsEveryByteAndAnySlice) {
  for (const v1::Tier tier : {v1::TIER_MEMORY, v1::TIER_DISK}) {
    for (const bool stream : {false, true}) {
      for (const int threads : {1, 3}) {
        for (const bool verify : {true, false}) {
          tier_ = tier;
          const auto plan = MakePlan({.threads = threads, .verify = verify, .stream = stream});
          ASSERT_NE(plan, nullptr);
          EXPECT_TRUE(ReadAndCompare(*plan, Everything()).ok());
          EXPECT_TRUE(ReadAndCompare(*plan, SomeSlices()).ok());
        }
      }
    }
  }
}

TEST_F(RestoreTest, StatisticsSayWhatWasRead) {
  ReadStatistics statistics;
  const auto plan = MakePlan();
  ASSERT_TRUE(ReadAndCompare(*plan, {{0, Box{{0, 0}, {1, 10}}}}, &statistics).ok());
  EXPECT_EQ(statistics.bytes_asked, 10u);
  EXPECT_EQ(statistics.bytes_read, kBlock);
  EXPECT_EQ(statistics.bytes_from_memory, kBlock);
  EXPECT_EQ(statistics.bytes_from_disk, 0u);
}

// Whatever the targets have in common: over all of them each block is read and hashed once, and
// neighbours are read in one go.
TEST_F(RestoreTest, EachBlockIsReadAndHashedOnce) {
  std::vector<std::pair<uint32_t, Box>> regions;
  for (uint64_t row = 0; row < 30; ++row) regions.push_back({0, Box{{row, 0}, {1, 120007}}});
  for (uint64_t row = 0; row < 30; row += 3) regions.push_back({0, Box{{row, 5}, {2, 70000}}});
  const uint64_t shard_bytes = 30 * 120007;
  for (const v1::Tier tier : {v1::TIER_MEMORY, v1::TIER_DISK}) {
    for (const bool stream : {false, true}) {
      tier_ = tier;
      ReadStatistics statistics;
      const auto plan = MakePlan({.stream = stream});
      ASSERT_TRUE(ReadAndCompare(*plan, regions, &statistics).ok());
      EXPECT_EQ(statistics.bytes_read, shard_bytes);
      EXPECT_EQ(statistics.bytes_hashed, shard_bytes);
      // From disk a little is cut into reads of a MiB, so that several are in flight.
      const uint64_t reads_of_disk = (shard_bytes >> 20) + 1;
      EXPECT_EQ(statistics.reads, stream ? 1u : tier == v1::TIER_MEMORY ? 0u : reads_of_disk);
    }
  }
  ReadStatistics unverified;
  ASSERT_TRUE(ReadAndCompare(*MakePlan({.verify = false}), regions, &unverified).ok());
  EXPECT_EQ(unverified.bytes_hashed, 0u);
}

// 33 tensors of 5 MiB in all, one after another in one file: about a read for each MiB, not for
// each tensor.
TEST_F(RestoreTest, NeighboursAreReadTogether) {
  tier_ = v1::TIER_DISK;
  ReadStatistics statistics;
  ASSERT_TRUE(ReadAndCompare(*MakePlan(), Everything(), &statistics).ok());
  EXPECT_EQ(statistics.bytes_read, file_bytes_);
  EXPECT_EQ(statistics.bytes_hashed, file_bytes_);
  EXPECT_LE(statistics.reads, (file_bytes_ >> 20) + 2);
}

TEST_F(RestoreTest, ADamagedMemoryBlockIsReadFromDiskInstead) {
  Damage(memory_, 0, 3 * kBlock + 5);
  ReadStatistics statistics;
  const auto plan = MakePlan();
  EXPECT_TRUE(ReadAndCompare(*plan, Everything(), &statistics).ok());
  EXPECT_GT(statistics.bytes_from_disk, 0u);
  EXPECT_LE(statistics.bytes_from_disk, 4 * kBlock);
}

TEST_F(RestoreTest, ATruncatedMemoryFileIsReadFromDiskInstead) {
  const auto plan = MakePlan();
  ASSERT_EQ(ftruncate(memory_, 100000), 0);
  EXPECT_TRUE(ReadAndCompare(*plan, Everything()).ok());
}

TEST_F(RestoreTest, DamageOnBothTiersNamesCheckpointKeyAndOffset) {
  Damage(memory_, 0, 3 * kBlock + 5);
  Damage(disk_, 0, 3 * kBlock + 5);
  const auto plan = MakePlan();
  const absl::Status status = ReadAndCompare(*plan, Everything());
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("run@5"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("model.big"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(3 * kBlock)));
  EXPECT_THAT(std::string(status.message()), HasSubstr("disk file " + disk_id_.hex()));
  EXPECT_TRUE(ReadAndCompare(*plan, {{0, Box{{31, 0}, {9, 120007}}}}).ok())
      << "what was not damaged can still be read";
}

TEST_F(RestoreTest, ADamagedOrShortDiskFileIsDataLoss) {
  tier_ = v1::TIER_DISK;
  Damage(disk_, 1, 17);
  const auto plan = MakePlan();
  EXPECT_EQ(ReadAndCompare(*plan, Everything()).code(), absl::StatusCode::kDataLoss);
  Damage(disk_, 1, 17);  // back again
  EXPECT_TRUE(ReadAndCompare(*plan, Everything()).ok());
  ASSERT_EQ(ftruncate(disk_, static_cast<off_t>(file_bytes_ + kDiskShift - 1)), 0);
  EXPECT_EQ(ReadAndCompare(*plan, Everything()).code(), absl::StatusCode::kDataLoss);
}

TEST_F(RestoreTest, WithoutVerifyingDamageGoesUnseen) {
  tier_ = v1::TIER_DISK;
  Damage(disk_, 7, 2);
  std::string buffer(tensors_[7].bytes.size(), '?');
  const ReadTarget target{7, Box{{0, 0}, {1, buffer.size()}},
                          reinterpret_cast<std::byte*>(buffer.data())};
  EXPECT_TRUE(MakePlan({.verify = false})->Read({&target, 1}).ok());
  EXPECT_NE(buffer, tensors_[7].bytes);
}

TEST_F(RestoreTest, AStreamThatIsDamagedOrMisleadingIsRefused) {
  const auto plan = MakePlan({.stream = true});
  const auto with = [&](std::function<void(v1::ReadPiecesResponse&)> spoil) {
    spoil_chunk_ = std::move(spoil);
    const absl::Status status = ReadAndCompare(*plan, Everything());
    if (absl::IsDataLoss(status)) {
      EXPECT_THAT(std::string(status.message()), HasSubstr("memory file " + memory_id_.hex()));
    }
    return status.code();
  };
  EXPECT_EQ(with([](auto& chunk) { chunk.mutable_data()->back() ^= 1; }),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(with([](auto& chunk) {
              chunk.mutable_data()->back() ^= 1;
              chunk.set_crc32c(Crc32c(chunk.data()));
            }),
            absl::StatusCode::kDataLoss)
      << "a good CRC over bad bytes: the block's hash tells";
  EXPECT_EQ(with([](auto& chunk) { chunk.set_offset(chunk.offset() + 1); }),
            absl::StatusCode::kInternal);
  EXPECT_EQ(with([](auto& chunk) { chunk.set_range(chunk.range() + 1); }),
            absl::StatusCode::kInternal);
  EXPECT_EQ(with([](auto& chunk) { chunk.mutable_data()->append(5 << 20, 'x'); }),
            absl::StatusCode::kResourceExhausted)
      << "past the message limit";
  spoil_chunk_ = nullptr;
  EXPECT_TRUE(ReadAndCompare(*plan, Everything()).ok());
}

TEST_F(RestoreTest, NothingIsTouchedWhenATargetIsWrong) {
  const auto plan = MakePlan();
  std::string good(tensors_[7].bytes.size(), '?');
  std::vector<ReadTarget> targets = {
      {7, Box{{0, 0}, {1, good.size()}}, reinterpret_cast<std::byte*>(good.data())},
      {0, Box{{0, 0}, {41, 1}}, reinterpret_cast<std::byte*>(good.data())}};
  EXPECT_EQ(plan->Read(targets).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(good, std::string(good.size(), '?'));
}

TEST_F(RestoreTest, APlanIsReleasedAndItsFilesClosed) {
  std::string released;
  {
    const auto plan = MakePlan();
    EXPECT_TRUE(daemon_.released_plans().empty());
  }
  ASSERT_EQ(daemon_.released_plans().size(), 1u);
  EXPECT_EQ(daemon_.released_plans()[0].size(), 16u);
}

TEST_F(RestoreTest, APlanOutlivesItsClientForWhatIsMapped) {
  auto plan = MakePlan();
  ASSERT_TRUE(ReadAndCompare(*plan, Everything()).ok());
  client_.reset();
  EXPECT_TRUE(ReadAndCompare(*plan, Everything()).ok());
}

TEST_F(RestoreTest, LeavesAreFoundByKeyAndTheNearestNameIsOffered) {
  const auto plan = MakePlan();
  EXPECT_EQ(*plan->Find("model.columns", 3), 1u);
  const absl::Status missing = plan->Find("model.colums", 0).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("did you mean model.columns"));
}

TEST_F(RestoreTest, TheRequestCarriesWhatWasAsked) {
  RestoreOptions options;
  options.selection.add_include("model.**");
  options.settle_timeout = absl::Milliseconds(1500);
  options.group = v1::RestoreGroup();
  options.group->set_world_size(4);
  MakePlan(options);
  EXPECT_EQ(last_request_.selection().include(0), "model.**");
  EXPECT_EQ(last_request_.settle_timeout().seconds(), 1);
  EXPECT_EQ(last_request_.settle_timeout().nanos(), 500000000);
  EXPECT_EQ(last_request_.group().world_size(), 4u);
  EXPECT_EQ(last_request_.session_token(), daemon_.token());
  options.stream = true;
  MakePlan(options);
  EXPECT_EQ(last_request_.session_token(), "");
}

TEST_F(RestoreTest, APlanThatMakesNoSenseIsRefused) {
  const v1::Piece good = pieces_[0];
  const auto code = [&](std::function<void(v1::Piece&)> spoil) {
    pieces_[0] = good;
    spoil(pieces_[0]);
    v1::Selector selector;
    selector.set_run("run");
    const auto plan = client_->PlanRestore(selector, {});
    return plan.status().code();
  };
  constexpr auto kInternal = absl::StatusCode::kInternal;
  EXPECT_EQ(code([](auto& piece) { piece.set_leaf_number(99); }), kInternal);
  EXPECT_EQ(code([](auto& piece) { piece.set_length(3); }), kInternal);
  EXPECT_EQ(code([](auto& piece) { piece.set_block_bytes(0); }), kInternal);
  EXPECT_EQ(code([](auto& piece) { piece.mutable_box()->set_offset(0, 1u << 30); }), kInternal);
  EXPECT_EQ(code([](auto& piece) { piece.mutable_box()->clear_extent(); }), kInternal);
  EXPECT_EQ(code([](auto& piece) { piece.mutable_box()->set_offset(0, 5); }), kInternal)
      << "as large as it should be, but over the next one";
  EXPECT_EQ(code([](auto& piece) { piece.set_block_bytes(UINT64_MAX); }), kInternal);
  EXPECT_EQ(code([](auto& piece) { piece.set_first_block(UINT64_MAX); }), kInternal);
  EXPECT_EQ(code([](auto&) {}), absl::StatusCode::kOk);
}

TEST_F(RestoreTest, LeavesThatMakeNoSenseAreRefused) {
  const auto code = [&](std::function<void(v1::PlannedLeaf&)> spoil) {
    spoil_last_leaf_ = std::move(spoil);
    v1::Selector selector;
    selector.set_run("run");
    const auto plan = client_->PlanRestore(selector, {});
    if (!plan.ok()) return plan.status().code();
    const auto last = static_cast<uint32_t>((*plan)->leaves().size() - 1);
    const auto& shape = (*plan)->leaves()[last].leaf().shape();
    std::string bytes(static_cast<size_t>(shape[0] * shape[1]), '\0');
    return (*plan)
        ->Read(
            {{{last, Box::Whole({shape.data(), 2}), reinterpret_cast<std::byte*>(bytes.data())}}})
        .code();
  };
  constexpr auto kInternal = absl::StatusCode::kInternal;
  pieces_.pop_back();  // an alias has none
  EXPECT_EQ(code([](auto& leaf) { leaf.set_alias_of(99); }), kInternal);
  EXPECT_EQ(code([](auto& leaf) { leaf.set_alias_of(leaf.leaf_number()); }), kInternal)
      << "of itself";
  EXPECT_EQ(code([](auto& leaf) { leaf.set_alias_of(5); }), kInternal) << "of another shape";
  const auto& like = tensors_[5];
  EXPECT_EQ(code([&](auto& leaf) {
              leaf.set_alias_of(5);
              leaf.mutable_leaf()->set_shape(1, like.columns);
              leaf.mutable_leaf()->set_dtype(v1::DTYPE_F32);
            }),
            kInternal)
      << "of another dtype";
  EXPECT_EQ(code([&](auto& leaf) {
              leaf.set_alias_of(5);
              leaf.mutable_leaf()->set_shape(1, like.columns);
            }),
            absl::StatusCode::kOk);
}

TEST_F(RestoreTest, TheSummaryIsKeptAndADryRunBringsIt) {
  EXPECT_EQ(MakePlan()->summary().tensors(), 0u);
  summary_.set_tensors(32);
  summary_.set_bytes_from_disk(5 << 20);
  EXPECT_EQ(MakePlan()->summary().tensors(), 32u);
  v1::Selector selector;
  selector.set_run("run");
  RestoreOptions options;
  options.selection.add_include("model.**");
  const size_t released = daemon_.released_plans().size();
  const auto estimate = client_->EstimateRestore(selector, options);
  ASSERT_TRUE(estimate.ok()) << estimate.status();
  EXPECT_EQ(estimate->bytes_from_disk(), uint64_t{5} << 20);
  EXPECT_TRUE(last_request_.summary_only());
  EXPECT_EQ(last_request_.selection().include(0), "model.**");
  EXPECT_EQ(daemon_.released_plans().size(), released) << "a dry run leaves no plan to release";
}

TEST_F(RestoreTest, AnOlderDaemonsAnswerToADryRunIsReleased) {
  daemon_.on_plan = [](const v1::PlanRestoreRequest&, auto* writer) {
    v1::PlanRestoreResponse response;
    response.mutable_header()->set_plan_id(PlanId::Random().bytes());
    writer->Write(response);
    return grpc::Status::OK;
  };
  v1::Selector selector;
  selector.set_run("run");
  EXPECT_EQ(client_->EstimateRestore(selector, {}).status().code(),
            absl::StatusCode::kUnimplemented);
  EXPECT_EQ(daemon_.released_plans().size(), 1u);
}

TEST_F(RestoreTest, ErrorsOfPlanningComeBackAsTheyAre) {
  daemon_.on_plan = [](const v1::PlanRestoreRequest&, auto*) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no run rum; did you mean run?");
  };
  v1::Selector selector;
  selector.set_run("rum");
  const auto plan = client_->PlanRestore(selector, {});
  EXPECT_EQ(plan.status(), absl::NotFoundError("no run rum; did you mean run?"));
  EXPECT_EQ(client_->PlanRestore(selector, {.threads = 0}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace ckpt
