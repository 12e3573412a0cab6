// SPDX-License-Identifier: Apache-2.0

package rpm

// Tag numbers one entry of a header.
type Tag uint32

// Tags that describe the header itself, and the signature data that an installed header carries.
const (
	tagHeaderImage      Tag = 61
	TagHeaderSignatures Tag = 62
	TagHeaderImmutable  Tag = 63
	TagHeaderI18NTable  Tag = 100

	TagSigSize         Tag = 257
	TagSigPGP          Tag = 259
	TagSigMD5          Tag = 261
	TagSigGPG          Tag = 262
	TagDSAHeader       Tag = 267
	TagRSAHeader       Tag = 268
	TagSHA1Header      Tag = 269
	TagLongSigSize     Tag = 270
	TagLongArchiveSize Tag = 271
	TagSHA256Header    Tag = 273
	TagVeritySigs      Tag = 276
	TagVerityAlgo      Tag = 277
	TagOpenPGP         Tag = 278
	TagSHA3256Header   Tag = 279
)

// Tags of a signature header that differ from the ones above.
const (
	SigTagFileSignatures   Tag = 274
	SigTagFileSignatureLen Tag = 275
	SigTagReserved         Tag = 999
	SigTagSize             Tag = 1000
	SigTagPGP              Tag = 1002
	SigTagMD5              Tag = 1004
	SigTagGPG              Tag = 1005
	SigTagPayloadSize      Tag = 1007
	SigTagReservedSpace    Tag = 1008
)

// Tags of the main header.
const (
	TagName              Tag = 1000
	TagVersion           Tag = 1001
	TagRelease           Tag = 1002
	TagEpoch             Tag = 1003
	TagSummary           Tag = 1004
	TagDescription       Tag = 1005
	TagBuildTime         Tag = 1006
	TagBuildHost         Tag = 1007
	TagInstallTime       Tag = 1008
	TagSize              Tag = 1009
	TagDistribution      Tag = 1010
	TagVendor            Tag = 1011
	TagLicense           Tag = 1014
	TagPackager          Tag = 1015
	TagGroup             Tag = 1016
	TagURL               Tag = 1020
	TagOS                Tag = 1021
	TagArch              Tag = 1022
	TagPreIn             Tag = 1023
	TagPostIn            Tag = 1024
	TagPreUn             Tag = 1025
	TagPostUn            Tag = 1026
	TagOldFilenames      Tag = 1027
	TagFileSizes         Tag = 1028
	TagFileStates        Tag = 1029
	TagFileModes         Tag = 1030
	TagFileRdevs         Tag = 1033
	TagFileMtimes        Tag = 1034
	TagFileDigests       Tag = 1035
	TagFileLinktos       Tag = 1036
	TagFileFlags         Tag = 1037
	TagFileUserName      Tag = 1039
	TagFileGroupName     Tag = 1040
	TagSourceRPM         Tag = 1044
	TagFileVerifyFlags   Tag = 1045
	TagArchiveSize       Tag = 1046
	TagProvideName       Tag = 1047
	TagRequireFlags      Tag = 1048
	TagRequireName       Tag = 1049
	TagRequireVersion    Tag = 1050
	TagConflictFlags     Tag = 1053
	TagConflictName      Tag = 1054
	TagConflictVersion   Tag = 1055
	TagRPMVersion        Tag = 1064
	TagTriggerScripts    Tag = 1065
	TagTriggerName       Tag = 1066
	TagTriggerVersion    Tag = 1067
	TagTriggerFlags      Tag = 1068
	TagTriggerIndex      Tag = 1069
	TagVerifyScript      Tag = 1079
	TagChangelogTime     Tag = 1080
	TagChangelogName     Tag = 1081
	TagChangelogText     Tag = 1082
	TagPreInProg         Tag = 1085
	TagPostInProg        Tag = 1086
	TagPreUnProg         Tag = 1087
	TagPostUnProg        Tag = 1088
	TagObsoleteName      Tag = 1090
	TagVerifyScriptProg  Tag = 1091
	TagTriggerScriptProg Tag = 1092
	TagFileDevices       Tag = 1095
	TagFileInodes        Tag = 1096
	TagFileLangs         Tag = 1097
	TagPrefixes          Tag = 1098
	TagInstPrefixes      Tag = 1099
	TagSourcePackage     Tag = 1106
	TagProvideFlags      Tag = 1112
	TagProvideVersion    Tag = 1113
	TagObsoleteFlags     Tag = 1114
	TagObsoleteVersion   Tag = 1115
	TagDirIndexes        Tag = 1116
	TagBasenames         Tag = 1117
	TagDirnames          Tag = 1118
	TagPayloadFormat     Tag = 1124
	TagPayloadCompressor Tag = 1125
	TagPayloadFlags      Tag = 1126
	TagInstallColor      Tag = 1127
	TagInstallTID        Tag = 1128
	TagFileColors        Tag = 1140
	TagPreTrans          Tag = 1151
	TagPostTrans         Tag = 1152
	TagPreTransProg      Tag = 1153
	TagPostTransProg     Tag = 1154
	TagLongFileSizes     Tag = 5008
	TagLongSize          Tag = 5009
	TagFileCaps          Tag = 5010
	TagFileDigestAlgo    Tag = 5011
	TagPreInFlags        Tag = 5020
	TagPostInFlags       Tag = 5021
	TagPreUnFlags        Tag = 5022
	TagPostUnFlags       Tag = 5023
	TagPreTransFlags     Tag = 5024
	TagPostTransFlags    Tag = 5025
	TagVerifyFlags       Tag = 5026
	TagTriggerScrFlags   Tag = 5027
	TagRecommendName     Tag = 5046
	TagRecommendVersion  Tag = 5047
	TagRecommendFlags    Tag = 5048
	TagSuggestName       Tag = 5049
	TagSuggestVersion    Tag = 5050
	TagSuggestFlags      Tag = 5051
	TagSupplementName    Tag = 5052
	TagSupplementVersion Tag = 5053
	TagSupplementFlags   Tag = 5054
	TagEnhanceName       Tag = 5055
	TagEnhanceVersion    Tag = 5056
	TagEnhanceFlags      Tag = 5057
	TagEncoding          Tag = 5062
	TagPayloadSHA512     Tag = 5121
	TagPayloadSHA3256    Tag = 5123
	TagFileSignatures    Tag = 5090
	TagFileSignatureLen  Tag = 5091
	TagPayloadDigest     Tag = 5092
	TagPayloadDigestAlgo Tag = 5093
	TagModularityLabel   Tag = 5096
	TagPayloadDigestAlt  Tag = 5097
	TagPayloadSize       Tag = 5112
	TagPayloadSizeAlt    Tag = 5113
	TagRPMFormat         Tag = 5114
	TagPreUnTrans        Tag = 5104
	TagPostUnTrans       Tag = 5105
	TagPreUnTransProg    Tag = 5106
	TagPostUnTransProg   Tag = 5107
	TagPreUnTransFlags   Tag = 5108
	TagPostUnTransFlags  Tag = 5109
)

// Tags of ordering hints, of file triggers and of transaction file triggers.
const (
	TagOrderName    Tag = 5035
	TagOrderVersion Tag = 5036
	TagOrderFlags   Tag = 5037

	TagFileTriggerScripts     Tag = 5066
	TagFileTriggerProg        Tag = 5067
	TagFileTriggerScriptFlags Tag = 5068
	TagFileTriggerName        Tag = 5069
	TagFileTriggerIndex       Tag = 5070
	TagFileTriggerVersion     Tag = 5071
	TagFileTriggerFlags       Tag = 5072
	TagFileTriggerPriorities  Tag = 5084

	TagTransFileTriggerScripts     Tag = 5076
	TagTransFileTriggerProg        Tag = 5077
	TagTransFileTriggerScriptFlags Tag = 5078
	TagTransFileTriggerName        Tag = 5079
	TagTransFileTriggerIndex       Tag = 5080
	TagTransFileTriggerVersion     Tag = 5081
	TagTransFileTriggerFlags       Tag = 5082
	TagTransFileTriggerPriorities  Tag = 5085
)
