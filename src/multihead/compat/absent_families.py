"""Families of the reference that this library does not have, most of them of images, sound and video.

Their classes can be imported and say what they are when they are used.
"""

# Stems of class names.
STEMS = frozenset(
    """
    AST Aimv2 Align AltCLIP AlternatingCodebooksLogits Aria Autoformer Bark Beit Bit Blip BltGlobalTransformer
    BltLocal BltPatcher BridgeTower Bros CHMv2 CLIP Canary Chameleon ChineseCLIP Clap Clvp CohereAsr
    ColModernVBert ColPali ColQwen2 ConditionalDetr ConvNext Cosmos3Edge Cosmos3Omni Csm Cvt DFine
    DINOv3ConvNext DINOv3ViT DPT DabDetr Dac DecisionTransformer DeepseekVL DeformableDetr DeiT Deimv2
    DepthAnything DepthPro Detr Dia DiffusionGemma Dinat Dinov2 DonutSwin Dots3Note EdgeTam EfficientLoFTR
    EfficientNet Emu3 Encodec Eomt Ernie4_5_VLMoe Ernie4_5_VL_Moe EsmFold2 EsmForProteinFolding Evolla
    Exaone4_5_ FastVlm Flava Florence2 FocalNet FunAsrNano Fuyu GLPN Gemma4Assistant Gemma4UnifiedAssistant Git
    Glm46V Glm4v Glm4vMoe Glm5Next GlmAsr GlmImage GlmOcr Glmga GotOcr2 GradiumPhononTTS GraniteDocling
    GroundingDino GroupViT HGNetV2 Hiera Hubert HunYuanVL IJepa Idefics ImageGPT Informer Inkling InstructBlip
    InternVL Janus Jev Kimi_K25 Kosmos2 Lasr LayoutLMv2 LayoutLMv3 LayoutXLM Levit Lfm2Vl Lfm3Vl LightGlue
    LightOnOcr Llava LwDetr Lxmert MLCD MMGroundingDino Mask2Former MaskFormer MetaClip2 Mgpstr Mimi MiniCPMOcr
    MiniCPMV4_6 MiniCPMV4_7 Mistral3 MistralLarge4 Mllama MobileNetV1 MobileNetV2 MobileViT ModernVBert Molmo2
    Moonshine Moshi MossTranscribeDiarize Mra MuseGlimmer MuseSpark MusicFlamingo Musicgen NVFP4
    Nemotron3Diarization Nemotron3_5Asr Nemotron3_5Transcribe NemotronAsrStreaming NemotronH_Omni_Reasoning_V3_
    NeoMME NeuCodec Nougat OmDetTurbo OneFormer Ovis2 OwlViT Owlv2 PI0 PPChart2Table PPDocLayoutV2 PPDocLayoutV3
    PPDocLayoutV4 PPFormulaNet PPLCNet PPOCRV5MobileDet PPOCRV5MobileRec PPOCRV5ServerDet PPOCRV5ServerRec
    PPOCRV6MediumDet PPOCRV6SmallDet PPOCRV6SmallRec PPOCRV6TinyRec PaddleOCR PaliGemma Parakeet PatchTSMixer
    PatchTST Perceiver PerceptionLM Phi4Multimodal Pix2Struct Pixio Pixtral PocketTTS PoolFormer Pop2Piano
    PromptDepthAnything Pvt QianfanOCR Qwen2VL Qwen2_5Omni Qwen2_5_VL Qwen3ASR Qwen3OmniMoe Qwen3VL RTDetr Radio
    Rag RegNet ResNet RfDetr SEW SLANeXt SLANet Sam Sapiens2 SeamlessM4T SeamlessM4Tv2 SegGpt Segformer
    ShieldGemma2 Siglip SmolVLM Step3p7 SuperGlue SuperPoint SwiftFormer Swin Swinv2 T5Gemma2 TableTransformer
    TextNet TimesFm Timesformer Timm Tipsv2 TrOCR Tvp UVDoc Udop UltraVBert UnivNet UnlimitedOcr UperNet VJEPA2
    ViT VibeVoice Vilt VipLlava VisualBert VitDet VitMatte VitPose Vits Vivit Voxtral Wav2Vec2 WavLM Whisper
    XCLIP Xcodec Yolos ZoeDepth
    """.split()
)

# Folders of these families, and of multimodal ones whose text half is another family's.
FOLDERS = frozenset(
    """
    aimv2 align altclip audio_spectrogram_transformer audioflamingo3 autoformer aya_vision bark barthez bartpho
    beit bert_japanese bertweet bit blip blip_2 bridgetower bros byt5 canary chameleon chinese_clip chmv2 clap
    clip clipseg clvp code_llama cohere2_vision cohere_asr colmodernvbert colpali colqwen2 conditional_detr
    convnext convnextv2 cosmos3_edge cosmos3_omni cpm csm cvt d_fine dab_detr dac data2vec
    decision_transformer deepseek_ocr2 deepseek_vl deepseek_vl_hybrid deformable_detr deimv2 deit depth_anything
    depth_pro detr dia diffusion_gemma dinat dinov2 dinov2_with_registers dinov3_convnext dinov3_vit donut
    dots3_note dpt edgetam edgetam_video efficientloftr efficientnet emu3 encodec eomt eomt_dinov3
    ernie4_5_vl_moe esmfold2 evolla exaone4_5 fast_vlm fastspeech2_conformer flava florence2 focalnet
    fun_asr_nano fuyu gemma4_assistant gemma4_unified gemma4_unified_assistant git glm46v glm4v glm4v_moe
    glm5_next glm_image glm_ocr glmasr glmga glpn got_ocr2 gradium_phonon_tts granite4_vision granite_docling
    granite_speech granite_speech5 granite_speech_plus grounding_dino groupvit herbert hgnet_v2 hiera
    higgs_audio_v2 higgs_audio_v2_tokenizer hubert hunyuan_vl hyperclovax_vision_v2 idefics idefics2 idefics3
    ijepa imagegpt informer inkling inkling2 instructblip instructblipvideo internvl janus jev kimi_k25 kosmos2
    kosmos2_5 kyutai_speech_to_text lasr layoutlmv2 layoutlmv3 layoutxlm levit lfm2_vl lfm3_vl lightglue
    lighton_ocr llava llava_next llava_next_video llava_onevision lw_detr lxmert mask2former maskformer mbart50
    metaclip_2 mgp_str mimi minicpm_ocr minicpmv4_6 minicpmv4_7 minimax_m3_vl mistral3 mistral_large4 mlcd
    mllama mluke mm_grounding_dino mobilenet_v1 mobilenet_v2 mobilevit mobilevitv2 modernvbert molmo2 moonshine
    moonshine_streaming moshi moss_transcribe_diarize mra muse_glimmer_assistant muse_spark musicflamingo
    musicgen musicgen_melody myt5 nemotron3_5_asr nemotron3_5_transcribe nemotron3_diarization
    nemotron_asr_streaming nemotron_h_omni neomme neucodec nllb nougat omdet_turbo oneformer openai ovis2 owlv2
    owlvit paddleocr_vl paligemma parakeet patchtsmixer patchtst pe_audio pe_audio_video pe_video perceiver
    perception_lm phi4_multimodal phobert pi0 pix2struct pixio pixtral pocket_tts pocket_tts_audio_tokenizer
    poolformer pop2piano pp_chart2table pp_doclayout_v2 pp_doclayout_v3 pp_doclayout_v4 pp_formulanet pp_lcnet
    pp_lcnet_v3 pp_lcnet_v4 pp_ocrv5_mobile_det pp_ocrv5_mobile_rec pp_ocrv5_server_det pp_ocrv5_server_rec
    pp_ocrv6_medium_det pp_ocrv6_small_det pp_ocrv6_small_rec pp_ocrv6_tiny_rec prompt_depth_anything pvt pvt_v2
    qianfan_ocr qwen2_5_omni qwen2_5_vl qwen2_audio qwen2_vl qwen3_5 qwen3_5_moe qwen3_asr qwen3_omni_moe
    qwen3_vl qwen3_vl_moe radio rag regnet resnet rf_detr rt_detr rt_detr_v2 sam sam2 sam2_video sam3
    sam3_lite_text sam3_tracker sam3_tracker_video sam3_video sam_hq sapiens2 seamless_m4t seamless_m4t_v2
    segformer seggpt sew sew_d shieldgemma2 siglip siglip2 slanet slanext smolvlm speech_encoder_decoder
    speech_to_text speecht5 superglue superpoint swiftformer swin swin2sr swinv2 t5gemma2 table_transformer
    textnet time_series_transformer timesfm timesfm2_5 timesformer timm_backbone timm_wrapper tipsv2 tipsv2_dpt
    trocr tvp udop ultravbert unispeech unispeech_sat univnet unlimited_ocr upernet uvdoc vibevoice
    vibevoice_acoustic_tokenizer vibevoice_asr video_llama_3 video_llava videomae videomt videoprism vilt
    vipllava vision_encoder_decoder vision_text_dual_encoder visual_bert vit vit_mae vit_msn vitdet vitmatte
    vitpose vitpose_backbone vits vivit vjepa2 voxtral voxtral_realtime wav2vec2 wav2vec2_bert
    wav2vec2_conformer wav2vec2_phoneme wav2vec2_with_lm wavlm whisper x_clip xcodec xcodec2 yolos zoedepth
    """.split()
)
