"""Grids of GGUF's blocks of one to three bits: a stored index names a row of four or eight codes."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

# name of a block type -> its number of rows, and the codes that the bits of a row stand for
ROWS: Mapping[str, tuple[int, tuple[int, ...]]] = {
    "IQ1_S": (2048, (-8, 0, 8)),  # eighths, so that a shift of one eighth is a whole number too
    "IQ2_XXS": (256, (8, 25, 43)),
    "IQ2_XS": (512, (8, 25, 43)),
    "IQ2_S": (1024, (8, 25, 43)),
    "IQ3_XXS": (256, (4, 12, 20, 28, 36, 44, 52, 62)),
    "IQ3_S": (512, (1, 3, 5, 7, 9, 11, 13, 15)),
}


@cache
def grid(name: str) -> Tensor:
    """Return the codes of a block type's grid: (rows, 8), or (rows, 4) of those of three bits; int8."""
    begin, rows = 0, _packed()
    for kind, (count, values) in ROWS.items():
        if kind == name:
            bits = 2 if len(values) < 4 else 4
            places = torch.arange(0, 16, bits)
            return torch.tensor(values, dtype=torch.int8)[rows[begin : begin + count, None] >> places & (1 << bits) - 1]
        begin += count
    raise KeyError(name)


@cache
def _packed() -> Tensor:
    """Return the rows of all grids, in the order of `ROWS`: codes packed into 16 bits, the first lowest; int64."""
    raw = bytearray(zlib.decompress(base64.b85decode(TABLES)))
    return torch.frombuffer(raw, dtype=torch.int16).long() & 0xFFFF


TABLES = (
    # written by tests/checkpoints/test_gguf_grids.py
    "c-n=T!FQT!zqWyZQAa?4sv{s`)sab>b_y1#WCRr0;z-"
    "=!){N4$ea}=~;!;QI5|?JAE_E6I%JanCujlOdylZ`bK+~0Y|E}x4A0Y^VFenZsAp)Wy7UH2iRD=}BfGo&?0;mJ^pdmDdB4`b5p(AvHP#A*=n1UHN"
    "4QF5hmS7duU=z0C8tlP7+=N?j2v6ZTyny#Ggdj*9Ng_1DB0Q2uiim<3h>Q408|ffDWQdHBDH0(oWQ}Z*BXU9rltLL)KqXW|ZM25^Xn;=96}kuiF^"
    "XYW45P6Wmca^`h$+|ureg+XVK(MqE>_1HSb(*#N34rYu?SmYFW3g#VSDU=y<$`>9g|{mOplo{J64U=V_vKoYsbRaG&YZ|Vo)53$K%O39cSZwJRdK"
    "{mADai;z7I<@5P7laXgBz<J<T#eu`rWB0(k6iEKhhNC`b*B<zHj@DuICG%-"
    "&s605{M0VR=SJef?=NjAwR^T}dTNg7Ev=_P|?C)rDe$zgJwjFRi*HhD~*k~mJ_6rRSjxPVKzjO)0KS8)&b@c?h*Q+$pu@D0AlVFD#$M1sHxlAwtc"
    "!4X-aKq$lmp%VsS5*A?-4&f4YA|U$2jEIO0u_FkQA{kO3MN%a-"
    "(j;xNO4dl9Y?2{4CFkUV+><aBqY@NF(Nu~`Qyi6}Bub%FszN<b24zt;<xnowpaQBz^{Ejxq2^RXEvXgtLT#uWwWnSwgvRJ3P0$og(+r)aS(>K>I!"
    "_mAiI!=FR%wGaX^XaLhj!^2?a@9R&`r8ccjzA7r$c&3kLd|LrRQ`+FX$EhLa*s9y{BOYWiTej&<w+*m<+=)IYwm4jLaxZg?V5M#%3I*%D9Zj_)Ng"
    "Gm^Sms445%9V<Kk9yfQ?JNeL+_C8yMsmeNyps+y{$>M1Yfr<$pDDojmN^VB|tr^z&(&ZN1tkS?d?w34o*jkJ}v(@xq=*V6TLkbX>$($n-"
    "T9i^A)P5O|2O(!x;CY#A+<cylpGJ3|$*qLg^%QQ3XOqiKw7MYg}#3F2*O|mr0vOFuWdA7(Ztiigh#|CVN?Xg34%tq{*-"
    "LiZ3$evh?BRGmna{^c9WKQF3uFBOokMp^JYjPns;TGJA+jB4<=aW3a(>%-be4a1z3UBZZ@A3iP<%j&3pYjpE=C}NjKk-<W$}-"
    "t>R>;a(C97t&teLg5)od-"
    ">%!b)%cAi~jH`zUiH!W~NK@bH+s0fB&3AW%04IvO(!bq41b0HFz!i%sGcEUk;6|fwhBXjATkdty+&d$|yUap<%=LWe+?j;B1k$gO#%+q-"
    "`&*$^`VqVD`c`F~}JNaIIm>=iY`ECA~KjjkzqCgeW1)-"
    "o8w1Qc%3tqu5Gz;xQSeO(Rg;il!*cYH8Qj8aqMYhNn^TlFODH=tm=oW)wr`RhFi{oNcTo<>+WARkPL_%alLDWQ3w8g4e6Ft!vo8nwti5u}CLJ};Y"
    "QcOxnq(n=Ml#((MC*`Dqq(~L%K{6yuvL#1yrJ58-E$LC}N_}Y{O{AF=No#2%Z6&Nsl&LaP7RplDEZgN;*)O-tqw>7GFT*k|r{#jI$QAiPHe^e-"
    "Wk>eph8)N(`BCo519>D*<e41FYk4ET%CLecn37Zog;HpRQPK*l2ue|r6j@OeRnZh(F%(O&6-TKmuHq@a5-3fjt@M<>5-"
    "LMws?3#0Stu*zMcFGy<)pwWrY2NMrPY+0Q8_iM7F1C!tBP7tb=6Q!)m9zVRU2xcw$!c~s$+GoM(Rf0sRtFS5EZ(TsR)&FMXTr)yHc%q6~EG~v@2m"
    "{TA5cCl~rY5fi+BvX-"
    "N&&D2>)q8mDEooF;0D_MjP>sacw>Ihw20wT2dGP3=(|Xd`W=McP7JY8!2*9kf@Cd5|B}2kpUrs6Nyl{D=0#{9*q9>!^<DF+HJ^I<04PPS5HEUDOr"
    "5q8qxU+q$E>dZ4%Tfj-hBeW|bYjegKyfhgie!blo~K^e5c7%3xdu!dmdjJ#1aBtte7Lp3x*Hw?oxEW<V&qiVQD&F~E02#luDHhM;AOpUn_84F`&t"
    "c|^KGGH@ik|u3tOwP=jWm7R9OvAKH+jLCVY?y%=niF$oM&`<VF?S|vVHROg7Hu(B%1T?DC0Kc@Xi1iADVAz!)`O*6hGki{<yckAwQ81UH7wr>tft"
    "krI@Zt{TT^RpMb^SvSsQC-?X8mq+lY<Ym>shdHf|F(X;U_BGj`g}*qoiU1v_UKY|)nNvMt++t=bh^vvu3BP1~|<+p(**YuD_$?b*H^*iE}-"
    "x9vx}YxnKY9@%4iVo&Y49oY+eX|L>!y|efB!G5(N2X+t#bz)B3NjQW<Ikb~<(hloz4)0_g!O1y!r{GAA;;2r=(VPcIcMQjLEXQ^nr|P&)&G8)H37"
    "odmb3$j}44siPcBW3`yf|BD?;M<?^Xi~gtQxB(s(6*Irm9@ESXHW(>O<A2T2;I1RI63DTCX;$el@7}s-x<pI;%$2Wpz`1t-"
    ">ziVs6qUT*{?g#!b6|E4i|(xT>qUx@)+mYq_@TxK-"
    "D6Yp&<|Zs0cEw%c_>cjQjpxf{6)cj>O&y^Gf3HM*9mu{EKVs}*WWty0r!M$N7{wQ9|+HEKbvReP*;YvbCi7S$HDW$mT5sbO`h&eYR&p)S|;x?Okb"
    ")q1V&)%|+2-"
    "mZ7+i~7C}d#D%l5+3Q%9_R61&MSC|r+J2FdyeONf!FjNy}md0W?tlNyo2}Z5e=r1Zio%3p*HM>)2KG;jj%CoEE@X;;gde?Gk(VB{G4C#MZfGTe#L"
    "+A4d3!@-"
    "|=0)=GXm(ANYMg^hf^0pZRk?@)!QnfAKf|&VTi>ARZ(GBA^2%NC$GD1ZtoKdSC=rU<Xd%243I?LC_4^!5|m~<6s&@!6H}%FTpn02Z!JoAk9RRZnD"
    "i>Gv6#U#ir7%G#{Eq(`wpHr&(>*n)PPTY&AR0UNdZtoAc(PxoobQ>*lU`Xr7u(E8P-"
    "WQp;@Fty;@#wOe6p+FG^_Ex3)g@iyJ&+SzulU1*DKsjaltcBO5!t+w5E+HSkv4%(0HUc28Ox1;u^y=(8=uWjOyc}zV@kMg7Ts6X0|)yLYS{}?>B9"
    "|w=~$K~V8<KYqNAf0$8*<m|;C*LV{l#bppI#$Q&xSgQW>GV3o&bSkG)}3wV*g18uF43jBOgG&Xx>8r}YF)i+cI~dyt#;k6-)(l=-"
    "LO0A&by25s=Mz(J){@!C3|#_?eV>Quh=tsR?qDPy-"
    "u&!8}`P%sJHHId&l0XNA=TvsW119zTL0&y}sXX_vigp9}W{C8PZ`U%!P$e45d&BE1?lup&dG*8`i=gY=*7yG3<u@a1f5dNjM9ma2Xy#V!#a217RQ"
    "y<bgJL80Z6g;0|g7Z_pe(4#L57@G{s9pdm7h50gWB$PW2oepnnzLuF_Tt)V*%hV5Zz*c%Rq<6$&h54XeP@HE6mu@Nz%M$AYUNh5irj<k_JGDr5PH"
    "u6UPC>$+DtI>W0jgfJDoE+0*cFd3S<KkEu8)Iwij637rcsL%9qw#vY9UsT1F*YG4%p^5QPlSmyQ778Oo>V8bNqh1*2`AIZe6pCVCi@9IMW?Z8Vv0"
    "}cX=<98a?|WIH!V!XsWR24#?+eHQ)lW<8`EIgpAM$8X*69<H`CqpFnyh3Gh#-"
    "~(lcQu&(xVV(`V+)o>gbfS$h`F=Cj4@bq3GTd2Ei)>3M3Nn~U>@xiPoq_S~6Q=kB~d_vVdxFz?R?^VxhpkLJtyX8t;dA}oqW$q0{#h>GZliP8}l2"
    "~i;`Mp7h4N~A_wq(??%Mpk4;PE?KDs1|vV9|ch}YDe8DjE2!Pnnm*{iWbo-dWqK2HrhwW=oG;Vbb&AEMS8(5a*M)3SyUF<!dRFKd*LkHMX+csdW-"
    "&Iv=}dDi}@m2>=uW`>jGOc%k)xMN=tRAFU_UBbe6THzYLb)a=KhBSIhkpUBy<36}}=@^eVN=tk@N|%C2%NaaCR^tIFzOWvr}~y>eFWs<8@I&DG<o"
    "yXvndtJx}Ay{tB?!wP$$UxXL=MSam;^cVZ3`r^HWFVmO#OZ2jMf!4@6zD};`HM{25`E_xvtc|s`cGm8?v+k{j>+w2Tuh-l4aeZ22o5Y6LP#b2G-"
    "eflFM%x%0dsE%iHr~eHgqz7`wpnae8)O^bCb#%Dz2&$0ZE>q?jjgkFx52iv?QMtK@iyA7x7+P;d)lUV!cN-BJAG&E>|J$N+j+ZS*W9&s?OnKw?Gt"
    "-^Pwwe`YM<K|_T{~@H}=-v-aC7DAM79Z-"
    "F<%_?g#tPezuSHOE5l(19Qk6xPx$z59;CJU>@v)bEqEbhsI%Wm>i<R;;=ew4!gtQ03DHI{FpqlNB)>U7LUf!Iyy)9*g5u&!{hiE9oNV0@pwEPu~+"
    "If{mQ)xuhOgjYQNTAz1QYz`*rfVc!f^LDSk?x*b{%spNc2rWSyK-"
    "=hQn5PvcW`TA#M3<LPvQ{@4Dee(!$?k|7<cLLTIwUjW8n`@=8_<1h`2a35ZtcRdgGJB*?zj&f)g711(ULF;H2?V}TPhe8;F#W5CBu{PELYdjIdV`"
    "8iy+ku^pft^i(g)PP9xE?pbwnh_T0!dOy7)Nm&=Wr3P<9&RBM>s^p2^K8d8qp!Lq(VYeoMI_~(x?uVq8l^>)*zfhQ+P^DbyH9pORv+$d1obA8LX<"
    "eO;zA39K<6$oJF&ER?IqCNRR|ynB?MMiOlnI5f)Jq7gHi9W<^n~h>lnnyJBCQfL*{!p45>-2`=O1O4%v5%8(qFS-"
    "B&xWKzj0kP27O3SJQ_N(IuYny2+N<zeyw>2aOV(>kkn^r4O#Wn*Vd&51R$k~R#Q4^$<pY0y+eH(o>QcwMZw>JTt|3YZ)6F);hdpdXZ5Z|+HUB;Xj"
    "do9c>Pq6hcUKHjJMV!z&pLN%O+iGet%50D``BF5+hpJXTEWHVu=ovAW|=KNd+m9@KMSIAmlhwH=!+NO5;5q<sV=g&ata|Q&Eg0~E)kOp#KLiYd4L"
    "I@3^DKv*x(E6N-"
    "7@PpPAVD%xa0ce!EJ#QhR^SS3z!qGGTW}X7W^zsphQtv9p%5045E;=C8|fh9bB1DQ0_2E9X*BgaO$x}9fm*2ZJ5_I)!a%ABi~`A$Fd5S^52Oo@p&"
    "(s3kgqaG*xNe}c7DkrK+4#-@GEE4cqhJ&pW<)=P2eDJ-NYyXCD~*?xk#?h$&29$kUkQp@f65l7NoF@D|iJra0}$|5$~Qe2@wc^fm9L%1(GQdGDv5"
    "Km=g;ECQ&j*;-"
    "pB{K~51016d^~3glIyWRO^$@<D208l`bs1j(fs?N@e5kX|b_IOn$s^80#DFm`?`AXtiJSqY?B2WeijFo$wDCxT1|Ak{qI0gL|cWEViT-"
    ";!+#D*?`BatE-u-}W|}x52vJ=38Jp$H7|udmF!HJ|-"
    "qW?n#mUo&B<?fc!s*hG>Bs2!3AyB4JWoA|wjjgCxn4e!ht<xC#{91z9eXMQ|60jDg!AWD0CuR+eO0*1?_3!Ini89NdZsmMEkqRT-"
    "?!|G65g(g2r3XtJhjZ4CvNgMf|qc0Clhp1dyUvaW+Gf(_Kb!FChDEkUMio=n(6EgUQ;(W+Zru!JBxZg=dV%{eV+11^lJN>#nOs%Bi#ErSXK*Z;mW"
    "tKO&&>aXD5vW<tv4BQ(7?o9-pb{D{{$Cl8JJz9^AbMM1I^CLPG=zc|Tg)(S<Z+-8r<-"
    "uLF8|&iWCJoT)Akf|3+S(elw7)Nu{B@%vaHVp%4^yB^L7+hi!`itk9fz?I4;s#Jya3Gxp1fVIIB_QZ2{h%W{?wU`!1ZF_dUen!3ef}@Us@Q;!%|z"
    "(FZJK9WPv5uYh&YX4&buiTvr5MTW`f(v<nW)!~e6%8h8VJ?Y|CQ-<&Z0Km7my-"
    "G38m|APT*Xb+wK4+Z|60S@c}4g|kRFoPp_1MmKg2*ooKR7Cs5g%FToj%@!U9dc;lHz6K=F~S9uXrRHF6a#bwXc3`Hbo0wZZ`4Shxxrv*zzzY+pZT"
    "F;8eoWt*;o~j#0M<tVIejIzM5m}Ggo4<H*?W|ElR8sGh$Y(9_s?iOn!6bjWSF;eI`xu%o;VWoxNrQ=6G=*a3_q<f0Kty(1}!n0|ZhMm4uP75_Q0$"
    "31ATc4EXm;v7TK0M<V6^!6XNF0hbzhfVa+U8k~)}#5efvH>HwiPBBCpu!<)HB7Y{9N@##uCSem*!XtdZuO1N+Lt+Xz_C~P;pcqYZWEQYYAq~<ZyJ"
    "Vl7{DW!?l|Gv|f2Nyy=9@{`RF(41oa<2`HKeB0oLZlm7o!t^dn8TMDVn3RfPiIMp)0gOTXdc7(tUaYn20fPh5%$_8Hte@o#`;AGb3ZE1mGl{N~Ji"
    "!%5q9cRZ<3EW*u0+54ec{a>mm{no6^2DJ`e<bUVFGqZvFSW}M$NePb!ZrU6d{w)l&wCTp`kAnTZ&v!`ElB{`bo0AtIX!Wo>!)wwR$=O%!+$zQLlG"
    "OwRsRsUvhESmuQrL(Clm(2nSm$OQ?k~Okcww~=~``HQLGA6_YLZAc|5Ly;=p(%6#rO_Oo6LT&gHI^sxR9?!<c|AYQpYm`4E#QTykSy{=|34Btb7p"
    "q#->B_~E+BW~H@hQoDQ?8wKN!wPX~1z_63#4FB@OW0lx(RAx{eRX-UDnON>gbrt$!1qE~m;_KzRkUAfs%R>*a2_|C{;AGxeD>_jy^6^Jn_2vIY!b"
    "%C=mUJ=q5?=*gixl&8Q6>$4SNN&=XHRA?ooaA!l56-B9>UpDK?qtaFS$^<wAQ86{H5-"
    "O##s&w{8N8O(tk^mMVD|97Q;VN0+lQJ+$rD6c9)GPhU1egWUFf9)JLTRifoh{SR78?A3KHv}HKWxLC`x>tczpSI`8ZeKk+j>>^bRRgVr-"
    "z`;P4)TNMlmA+j6?z_r3}u<p3S5f6~izrqi%GKzA*u&!pyiyn3Tzy60nwTw$0AjTrn#F>_u9%l>!dS0*jR`#j2d&{@#4nw<f@7h>ZcO5jJJBwq(n"
    ";4h#o7sDnE>M+A;Ts#rA+x+GO)f$e1AyIQqVg<aIef%TwTx)#=sXY<8?`^Y+7Pu0147FbZJSLz0EVZGk3Pk;*%5A)(4;ZYvzNuKQKUdLN`XajGE4"
    "X3d=x6-&z_>|B3k}vzZ-|^u94c^T85VV3>05#`LxP`XxR?u3upmwoce%$=SqG{k!;g?6vj@_wtJmAx?GwsaJK1~3hl3f}!U9Ou2W-"
    "WJ>ZUy+&>UO*R?xgz)Jd5>`J)%eTq@LW<&#sO26Tf_$>T|%k<-"
    "XFd^o_m+?Az`4`x9VbB*emaNQ6|#h7$0x9(KZU2oKN!J}7|x3=Od%F{FmlP#)^T?GPTJBXJY}Ls!SOac{gm8#)0TO-"
    "|@Z>fEu*6J=7F7!zw!pLBt@C&1j;l$cUeX(~_kX>AJ6&>21xX9r+%1h_mtC+5_gol9q{cjk*Z9H9{&iP19JM9@NA_zQT6F7ah<DK1}^&`MjGs|j#"
    "D224+ZO<Y_{YZ>(TE!e-}CIH(u`D@kwy=0GDc!%!rowytAb~|XF-W#9+<iTpRfcgJt6%K#-"
    "9|i8eg5I6Ye*=}F@6b=+^oz64Iaq*8@GUF>k3XG_jRIf4eV2QK+##P31Nj5_iNF_^7x)EvAzVCNT%n&(8T|wOj{Zbp>=L^LcD;}JG5nIcWG+8ndY"
    "3SMadsMqU*jeG7XN^M!S%DRh_j<$@&ee01okPB&m?q(T(MU-SL#*s3I^`cDHgaxrN7Y_!@m>Xy^)<@ug>46<=7jx3<!R~VP}SOT#5UW`-"
    "^)zuRnr+cm8hd6EE^M4`1Wg)b-Q#kL&yF*X)Jx9#Hv*0KdO@&%9UO!zH{#mblV&NiPMZ=Mr>-"
    "+^{z{H}Z{o1K(cU;<v)BdHZ}z+}+)kK79G``~kX;-"
    "ShYMJ@xV9$3H*beX4&##dqSp_(}XK{vrO5*zza9&U(37zWl6wMr8xgP*6TAPYU)0|3ZE#eIWsHo^%K>C1=<MW!{?4Ci3;`SKPX`-doQWV&B-"
    "hll`OoN4754)w*BjJkNXA@EfH+KmIBESYQTs&5OUdzb>Azr^_e&>GsKd%6${Rk<ZGr`3!xhzu$eYf9HNkKcJt;&+O0AzaR)cH^55>d;k!6?tm=Bf"
    "d+U7i69FK^aV1YuTULoK;NJr(0_q{0K>@nEr0-RkA<({_wWsT56iFzI^Hw*aWH6gmk5qrAq>JH0#ZUgAZ0{BzJRoRMV^rF$i)S5L0_;J{Kd`1-"
    "NnZX`9i-iFaEmtcJcE9La)$w=azR1I^Ji{?w(KtLqTWbu^e^>S{wL-VNL8i7K;(FtJqD<jD3qim&hf0$zJl8xy!pt{n7%z5R4<|*8~E;0{!V7&f+"
    "|N1Jd^K+?+i88T`sHaY4ig95f`3C=qv{8@;unC*oh=k3oV4^p0df2f76<=rd`9RrgH7SLoH{6@GPf#a+F>DqVfJlCBz8PgfTpn<QvOH`E<f25m^E"
    "EYNyz`U-TN5`7C=4$EYj_n_0L4E*lm9sZ7d$Gy9MC%tRDdjctj*$dE6E?Jx<&mDzhui5u(iM<6a<uj|Cd&*zz6Z@V02|geM<ok+y$MKxN-Ebd3Pc"
    "b-{NBK*h<FEM=$hgFR<^SNn@jrOz8o9=<iEI8kdwp|#cU`{LubbC!_A<+6ud}z=`>d3G&i>4zpq=o-"
    "CqWdx3Qq!*LvoinE@$Vw9QK}gpL<_=|M|WC9w`x}s}fy$SK>=IrMuF7sa%pvUrI*l&(gONd~<Pw-"
    "B35&&Gn6VQ@?q>`PU6}OWv}#x3?c|^;`H3zoYKByX(96ccnY&?(^N3JNxeY-Ngsu1M`9ZaPz_ZQ2*e6fba2p@?N;Vy_fHu`|tP6N9iN{>EaXniT`"
    "x}2?9Nc6j{)H-ix=QB<kXmh)9>9*<686Q<Cnb&yoS!3|zhd&4n&=<vVbDf0P^Lr!xAP_<Z%5{mg&9`F#KRt-WOBPqHX~lQHEIG?0dJrG8NBD*lBA"
    "H~IOC@deRw&<uE81byHO=mJgs2XOy|fdTJx#;x%T3{RNXX36|$egzkM`4#{A{;T}e_!@lu{`JlCtaWRt7HQ{f!~SZQ9pn%65B?9Leg#~7Q@;cLg@"
    "AG2d%j0DJ~YY=yU}PoHK0GKKe<1}KL!7@-"
    "|(T}BKQ#01FR`FiNCJ?f}T)t<Lndv^zli2vYr}G$T#9!_S@%g$~X8Kea4@eXYRT5Y&;|1Z@=Gv|N0&Nf&IAp!T!*H@IT8xk$>I%3;M7B2FGotEC"
)
