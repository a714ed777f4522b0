// The first byte says whether the rest is the wire's form, or a message whose shards are put in
// order and whose digest is filled in: hardly anything would get past that.
#include "common/layout.h"

#include <string>

#include "ckpt/v1/checkpoint.pb.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/targets.h"

namespace ckpt::fuzz {
namespace {

void FuzzLayout(absl::string_view bytes) {
  Input input(bytes);
  const bool made = input.Byte() % 2 == 1;
  const std::string rest(input.Rest());
  v1::Layout message;
  if (made && !message.ParseFromString(rest)) return;
  const auto layout = made ? PartLayout::FromProto(message) : PartLayout::FromBytes(rest);
  if (!layout.ok()) return;
  Require(made || (*layout)->serialized() == rest, "a layout has one form");
  Require(PartLayout::FromBytes((*layout)->serialized()).ok(), "its own form is read");
  const auto again = PartLayout::FromProto((*layout)->ToProto());
  Require(again.ok() && (*again)->digest() == (*layout)->digest(), "its messages say the same");
  uint64_t end = 0;
  for (const PartLayout::ShardPlace& place : (*layout)->shards()) {
    Require(place.length > 0 && place.part_offset >= end, "shards do not overlap");
    end = place.part_offset + place.length;
  }
  Require(end <= (*layout)->part_bytes(), "shards lie within the part");
}

const Registration kLayout("layout", FuzzLayout);

}  // namespace
}  // namespace ckpt::fuzz
