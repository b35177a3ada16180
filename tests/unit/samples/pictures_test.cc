#include "samples/pictures.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

namespace tandem::samples {
namespace {

namespace fs = std::filesystem;

class Folders : public testing::Test {
 protected:
  Folders() : root_(fs::temp_directory_path() / ("tandem_samples_" + std::to_string(::getpid()))) {
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  ~Folders() override { fs::remove_all(root_); }
  void put(const std::string& path, const std::string& text = "x") {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  std::unique_ptr<Pictures> open(const PicturesOptions& options = {}) { return open_pictures(root_.string(), options); }
  static std::vector<std::size_t> accepted(const Pictures& pictures, std::size_t i) {
    const auto right = pictures.accepted(i);
    return {right.begin(), right.end()};
  }
  fs::path root_;
};

TEST_F(Folders, FoldersAreClasses) {
  put("red_car/1.png"), put("red_car/deeper/2.jpg"), put("bicycle/3.png");
  const auto pictures = open();
  EXPECT_EQ(pictures->labels(), (std::vector<std::string>{"bicycle", "red car"}));
  ASSERT_EQ(pictures->size(), 3U);
  EXPECT_EQ(accepted(*pictures, 0), std::vector<std::size_t>{0});
  EXPECT_EQ(accepted(*pictures, 1), std::vector<std::size_t>{1});
  EXPECT_EQ(accepted(*pictures, 2), std::vector<std::size_t>{1});
}

TEST_F(Folders, OneFolderOrLoosePicturesAreNoClasses) {
  put("car/1.png");
  EXPECT_TRUE(open()->labels().empty());
  put("2.png"), put("bicycle/3.png");
  EXPECT_TRUE(open()->labels().empty());
  EXPECT_TRUE(open()->accepted(0).empty());
}

TEST_F(Folders, GivenLabelsChooseAmongTheClasses) {
  put("red_car/1.png"), put("bicycle/3.png"), put("cat/3.png");
  PicturesOptions options;
  options.labels = {"dog", "red car", "cat"};
  const auto pictures = open(options);
  EXPECT_EQ(pictures->labels(), options.labels);
  EXPECT_TRUE(pictures->accepted(0).empty());  // bicycle
  EXPECT_EQ(accepted(*pictures, 1), std::vector<std::size_t>{2});
  EXPECT_EQ(accepted(*pictures, 2), std::vector<std::size_t>{1});
}

TEST_F(Folders, LabelsBesideThePictures) {
  put("a.png"), put("sub/b.png"), put("c.png");
  put("names.txt", "red heart\nblue heart\nnorway\nsvalbard\n");
  put("labels.jsonl",
      "{\"file\": \"sub/b.png\", \"label\": \"norway\", \"accepted\": [2, 3]}\n"
      "{\"file\": \"a.png\", \"label\": \"red heart\", \"accepted\": [0]}\n");
  const auto pictures = open();
  EXPECT_EQ(pictures->labels(), (std::vector<std::string>{"norway", "red heart", "svalbard"}));
  EXPECT_EQ(accepted(*pictures, 0), std::vector<std::size_t>{1});
  EXPECT_TRUE(pictures->accepted(1).empty());
  EXPECT_EQ(accepted(*pictures, 2), (std::vector<std::size_t>{0, 2}));
  put("labels.jsonl", "{\"file\": \"a.png\", \"accepted\": [4]}\n");
  EXPECT_THROW(open(), Error);
  put("labels.jsonl", "a.png norway\n");
  EXPECT_THROW(open(), Error);
}

TEST_F(Folders, FewAreTakenEvenly) {
  for (int i = 0; i < 10; ++i) put(std::to_string(i) + ".png");
  PicturesOptions options;
  options.count = 5;
  const auto pictures = open(options);
  ASSERT_EQ(pictures->size(), 5U);
  EXPECT_EQ(fs::path(pictures->name(4)).filename(), "8.png");
}

TEST_F(Folders, WhatIsNoFolderOrHasNoPicturesIsSaid) {
  EXPECT_THROW(open(), Error);
  EXPECT_THROW(open_pictures((root_ / "none").string(), {}), Error);
}

std::vector<std::uint8_t> pixels(const Pictures& pictures, std::size_t i) {
  const ImageInput input = pictures.open(i);
  const auto& picture = std::get<HostPixels>(input);
  EXPECT_EQ(picture.pixels->size(), static_cast<std::size_t>(picture.width * picture.height * 3));
  return *picture.pixels;
}

TEST(RandomPictures, AreTheSameAgainAndAllDifferent) {
  PicturesOptions options;
  options.side = 28, options.count = 12;
  const auto first = open_pictures("random", options), second = open_pictures("random", options);
  std::set<std::string> seen;
  for (std::size_t i = 0; i < 12; ++i) {
    EXPECT_EQ(pixels(*first, i), pixels(*second, i));
    const auto shown = pixels(*first, i);
    seen.emplace(shown.begin(), shown.end());
  }
  EXPECT_EQ(seen.size(), 12U);
  options.seed = 2;
  EXPECT_NE(pixels(*open_pictures("random", options), 0), pixels(*first, 0));
}

TEST(EmojiPictures, ShowEveryDrawingAndShareLabelsOfEqualOnes) {
  const auto all = open_pictures("emoji", {});
  ASSERT_EQ(all->size(), 1870U);
  EXPECT_EQ(all->labels().size(), 1870U);
  std::size_t shared = 0;
  for (std::size_t i = 0; i < all->size(); ++i) {
    const auto right = all->accepted(i);
    EXPECT_NE(std::find(right.begin(), right.end(), i), right.end());
    shared += right.size() > 1 ? 1 : 0;
  }
  EXPECT_EQ(shared, 16U);  // as models/emoji/README.md says
  PicturesOptions options;
  options.count = 2 * 1870;
  const auto twice = open_pictures("emoji", options);
  EXPECT_EQ(twice->size(), 3740U);
  EXPECT_EQ(twice->labels().size(), 1870U);
  EXPECT_EQ(twice->accepted(1870 + 7)[0], all->accepted(7)[0]);
  EXPECT_EQ(pixels(*twice, 7), pixels(*all, 7));
  EXPECT_NE(pixels(*twice, 1870 + 7), pixels(*all, 7));  // another look
  options.count = 10;
  EXPECT_EQ(pixels(*open_pictures("emoji", options), 1), pixels(*all, 187));
}

TEST(EmojiPictures, GivenLabelsAreTheClasses) {
  PicturesOptions options;
  options.labels = {"grinning face", "nothing of the kind"};
  const auto pictures = open_pictures("emoji", options);
  ASSERT_EQ(pictures->accepted(0).size(), 1U);
  EXPECT_EQ(pictures->accepted(0)[0], 0U);
  EXPECT_TRUE(pictures->accepted(5).empty());
}

}  // namespace
}  // namespace tandem::samples
